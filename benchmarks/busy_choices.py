"""Whether a model compiled on a busy machine runs as fast as one compiled in peace.

Every network is compiled several times in peace and while each core has another program at work (a
matrix product, pinned to it, so that compiling gets half a core at most), choices measured anew.
Then all of them take turns on a machine that is quiet again.

    taskset -c 1 python benchmarks/busy_choices.py --repeat 100

Outputs are compared before anything is timed. Prints per network the median time of the models
compiled in peace, how much slower those compiled under load are (the slowest of them, too), and in
how many layers they run another algorithm than the first one compiled in peace.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import numpy as np
from networks import NETWORKS, export

from activsparse import Session
from activsparse.bench.machine import busy_warning, describe_machine, summary_line
from activsparse.engine.choice_cache import CACHE_VARIABLE
from activsparse.files import atomic_path

_LOAD = """
import os, sys
import numpy as np
os.sched_setaffinity(0, {int(sys.argv[1])})
a = np.random.default_rng(0).standard_normal((700, 700), np.float32)
while True:
    a @ a
"""


@contextmanager
def busy_cores() -> Iterator[None]:
    """Every core of the machine has a program at work while entered."""
    one_thread = {**os.environ, "OPENBLAS_NUM_THREADS": "1"}
    programs = [
        subprocess.Popen([sys.executable, "-c", _LOAD, str(core)], env=one_thread)
        for core in range(os.cpu_count() or 1)
    ]
    try:
        time.sleep(2)
        yield
    finally:
        for program in programs:
            program.kill()
            program.wait()


def outputs(session: Session, x: dict[str, np.ndarray]) -> np.ndarray:
    """All outputs in one row."""
    found = session.run(x)
    return np.concatenate([np.ravel(y) for y in (found if isinstance(found, list) else [found])])


def compare(path: Path, count: int, repeat: int) -> list[str]:
    """The figures of one network: ms in peace, ratios under load, layers chosen otherwise."""
    peace = [Session(path, threads=1, tune=True) for _ in range(count)]
    with busy_cores():
        loaded = [Session(path, threads=1, tune=True) for _ in range(count)]
    time.sleep(2)
    sessions = peace + loaded
    x = peace[0].random_input(0)
    first = outputs(sessions[0], x)
    for session in sessions[1:]:
        error = np.abs(outputs(session, x) - first).max() / np.abs(first).max()
        if not error < 1e-3:
            raise SystemExit(f"{path}: outputs differ by {error:.2g} of the largest")
    times = np.empty((repeat, len(sessions)))
    for turn in times:
        for at, session in enumerate(sessions):
            begin = time.perf_counter()
            session.run(x)
            turn[at] = 1e3 * (time.perf_counter() - begin)
    medians = np.median(times, axis=0)
    quiet = median(medians[:count])
    chosen = [{row.name: row.algorithm for row in session.explain()} for session in sessions]
    others = [len(found.items() - chosen[0].items()) for found in chosen]
    ratios = medians / quiet
    return [
        f"{quiet:.3f}",
        f"{min(ratios[:count]):.3f} to {max(ratios[:count]):.3f}",
        f"{median(ratios[count:]):.3f}",
        f"{max(ratios[count:]):.3f}",
        " ".join(map(str, others[1:count])) + " / " + " ".join(map(str, others[count:])),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", default=[*NETWORKS], help="networks (default: all)")
    parser.add_argument("--count", type=int, default=3, help="compiled each way (default: 3)")
    parser.add_argument("--repeat", type=int, default=60, help="timed rounds (default: 60)")
    parser.add_argument("--out", type=Path, help="also write the table there, as CSV")
    args = parser.parse_args()
    os.environ[CACHE_VARIABLE] = "off"
    if warning := busy_warning():
        print(warning)
    head = ["network", "ms, in peace", "in peace", "under load", "slowest", "other algorithms"]
    rows = [head]
    print(summary_line(describe_machine()))
    print(" | ".join(head))
    with tempfile.TemporaryDirectory() as folder:
        for name in args.names:
            rows.append([name, *compare(export(name, Path(folder), []), args.count, args.repeat)])
            print(" | ".join(rows[-1]), flush=True)
    if args.out:
        with atomic_path(args.out) as path:
            path.write_text("\n".join(";".join(row) for row in rows) + "\n")


if __name__ == "__main__":
    main()
