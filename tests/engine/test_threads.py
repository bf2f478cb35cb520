"""Sessions in several threads of a program: they share cores, and one runs for several at once."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from activsparse import ActivsparseError, Session, ThreadPool, _native


def at_once(count: int, body: Callable[[int], None]) -> None:
    """Call `body(i)` in so many threads; fail when one of them failed."""
    errors: list[BaseException] = []

    def guarded(i: int) -> None:
        try:
            body(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


@pytest.mark.parametrize(("threads", "batch"), [(1, 1), (2, 1), (2, 4), (3, 4)])
def test_one_session_in_several_threads(
    exported, open_batch: Path, threads: int, batch: int
) -> None:
    model, size = (exported("resnet18"), 64) if batch == 1 else (open_batch, 8)
    rng = np.random.default_rng(threads)
    x = rng.standard_normal((6, batch, 3, size, size), np.float32)
    shapes = {Session(model, threads=1, tune=False).inputs[0][0]: x.shape[1:]}
    alone = Session(model, threads=1, tune=False, input_shapes=shapes)
    expected = [alone.run(each) for each in x]
    session = Session(
        model, threads=threads, tune=False, input_shapes=shapes, pool=ThreadPool(2 * threads)
    )
    first = session.run(x[0])
    assert np.abs(first - expected[0]).max() <= 1e-4 * np.abs(expected[0]).max()
    results = [session.run(each) for each in x]

    def check(i: int) -> None:
        for k in range(8):
            at = (i + k) % len(x)
            np.testing.assert_array_equal(session.run(x[at]), results[at])

    at_once(4, check)


def test_runs_of_one_session_overlap(exported) -> None:
    """A second run takes memory of its own, which it needs only while another is under way."""
    session = Session(exported("resnet18"), threads=1, tune=False, pool=ThreadPool(2))
    (part,) = session._parts
    x = np.zeros(session.inputs[0][1], np.float32)
    session.run(x)
    assert part.runs_at_once == 1
    for _ in range(100):
        at_once(2, lambda i: [session.run(x) for _ in range(5)])
        if part.runs_at_once == 2:
            break
    assert part.runs_at_once == 2
    at_once(4, lambda i: [session.run(x) for _ in range(5)])
    assert part.runs_at_once == 2  # no more than the pool has threads


def test_other_python_threads_go_on_during_a_run(exported) -> None:
    session = Session(exported("resnet18", size=224), threads=1, tune=False)
    x = np.zeros(session.inputs[0][1], np.float32)
    counted, ended = [0], threading.Event()

    def count() -> None:
        while not ended.is_set():
            counted[0] += 1

    counter = threading.Thread(target=count)
    counter.start()
    try:
        progress = []
        for _ in range(10):
            before = counted[0]
            session.run(x)
            progress.append(counted[0] - before)
    finally:
        ended.set()
        counter.join()
    # With the lock held it could count only before a run and after it.
    assert max(progress) > 1000


# In a process of its own, where nobody else's threads come and go.
_COUNTING = """
import sys
from pathlib import Path
from activsparse import Session, ThreadPool

def started():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Threads:"))

def sessions(**options):
    return [Session(sys.argv[1], tune=False, **options) for _ in range(3)]

kept = Session(sys.argv[1], threads=1, tune=False)
before, counts = started(), []
shared = sessions(pool=ThreadPool(3))
counts += [started() - before, *(session.threads for session in shared)]
del shared
counts.append(started() - before)
shared = sessions(threads=2)
counts.append(started() - before)
del shared
print(*counts)
"""


def test_sessions_share_threads(sparse: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", _COUNTING, str(sparse)], capture_output=True, text=True, check=True
    )
    cores = _native.cpu_info()["physical_cores"]
    # Of the process's threads one that each session needs, and no more than all can use.
    assert ran.stdout.split() == list(map(str, (2, 3, 3, 3, 0, max(1, min(3, cores - 1)))))


@pytest.mark.parametrize("own", [True, False])
def test_sessions_run_at_once_on_shared_threads(exported, own: bool) -> None:
    pool = ThreadPool(3) if own else None
    sessions = [Session(exported("resnet18"), threads=2, tune=False, pool=pool) for _ in range(3)]
    x = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
    expected = sessions[0].run(x)

    def check(i: int) -> None:
        for _ in range(10):
            np.testing.assert_array_equal(sessions[i].run(x), expected)

    at_once(3, check)


def test_what_is_no_pool_is_refused(exported) -> None:
    with pytest.raises(ActivsparseError, match="ThreadPool"):
        Session(exported("resnet18"), pool=2)  # type: ignore[arg-type]
    for threads in (0, -1, 1025):
        with pytest.raises(ActivsparseError, match="between 1 and 1024"):
            ThreadPool(threads)
