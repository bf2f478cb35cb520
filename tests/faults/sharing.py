"""Sessions shared by threads, taken through a fork, and loaded a thousand times."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import numpy as np

from activsparse import ActivsparseError, Session
from faults.children import fork
from faults.models import network

_THREADS = 8
_MOST_GROWTH_BYTES = 8 << 20


def threads(folder: Path, runs: int) -> list[str]:
    """8 threads run one session, then each one its own: all get the numbers of a single one."""
    path = network(folder / "threads.onnx")
    xs = [np.random.default_rng(i).standard_normal((1, 3, 24, 24), np.float32) for i in range(16)]
    faults: list[str] = []
    done = 0
    for width in (1, 2):
        alone = Session(path, threads=width, tune=False)
        wanted = [alone.run(x) for x in xs]

        def check(session: Session, first: int, wanted: list[np.ndarray] = wanted) -> None:
            try:
                for k in range(runs):
                    i = (first + k) % len(xs)
                    if not np.array_equal(session.run(xs[i]), wanted[i]):
                        faults.append(f"thread {first}, run {k}: other numbers")
            except Exception as error:  # a thread must not die in silence
                faults.append(f"thread {first}: {type(error).__name__}: {error}")

        own = [Session(path, threads=width, tune=False) for _ in range(_THREADS)]
        for sessions in ([alone] * _THREADS, own):
            started = [
                threading.Thread(target=check, args=(session, i))
                for i, session in enumerate(sessions)
            ]
            for thread in started:
                thread.start()
            for thread in started:
                thread.join()
            done += runs * _THREADS
    print(f"{_THREADS} threads, one session and one each: {done} runs; {len(faults)} faults")
    return faults


def forks(folder: Path, count: int) -> list[str]:
    """Children of a process that has run a session: theirs runs, or says that it cannot."""
    path = network(folder / "forks.onnx")
    x = np.random.default_rng(0).standard_normal((1, 3, 24, 24), np.float32)
    faults: list[str] = []
    refused = 0
    for width in (1, 2):
        before = Session(path, threads=width, tune=False)
        wanted = before.run(x)

        def inherited(session: Session = before, wanted: np.ndarray = wanted) -> int:
            try:
                return 0 if np.array_equal(session.run(x), wanted) else 1
            except ActivsparseError:
                return 2

        def anew(width: int = width, wanted: np.ndarray = wanted) -> int:
            return 0 if np.array_equal(Session(path, threads=width).run(x), wanted) else 1

        for _ in range(count):
            status = fork(inherited, folder / "log").wait(60)
            refused += status == 2
            if status not in (0, 2) or (width == 1 and status == 2):
                faults.append(f"an inherited session of {width} threads: exit status {status}")
            child = fork(anew, folder / "log")
            if (status := child.wait(60)) != 0:
                faults.append(f"a new session of {width} threads: {status}: {child.said[-200:]}")
        if not np.array_equal(before.run(x), wanted):
            faults.append("the parent computes something else afterwards")
    print(f"fork: {4 * count} children ({refused} refused in one line); {len(faults)} faults")
    return faults


def load_cycles(folder: Path, count: int) -> list[str]:
    """Load, run and drop models and plans over and over: memory stays where it was."""
    path = network(folder / "cycles.onnx")
    plan = folder / "cycles.plan"
    Session(path, tune=False).save(plan)
    x = np.random.default_rng(0).standard_normal((1, 3, 24, 24), np.float32)

    def cycle(i: int) -> None:
        source = path if i % 4 == 0 else plan
        Session(source, threads=1 + i % 2, **({"tune": False} if i % 4 == 0 else {})).run(x)

    warm = max(count // 5, 20)
    for i in range(warm):
        cycle(i)
    before, handles = resident_bytes(), open_handles()
    for i in range(count):
        cycle(i)
    grown, more = resident_bytes() - before, open_handles() - handles
    faults = []
    if grown > _MOST_GROWTH_BYTES:
        faults.append(f"{grown >> 10} KiB more after {count} cycles")
    if more:
        faults.append(f"{more} more open files or threads")
    print(f"load cycles: {count}, {grown / 1024:.0f} KiB more than before; {len(faults)} faults")
    return faults


def resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def open_handles() -> int:
    """Open files and threads of this process."""
    return sum(len(list(Path(f"/proc/self/{kind}").iterdir())) for kind in ("fd", "task"))
