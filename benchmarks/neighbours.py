"""What a process loses to a neighbour that runs the same, where both have all cores' threads.

    .venv/bin/python benchmarks/neighbours.py model.onnx
    .venv/bin/python benchmarks/neighbours.py model.onnx --batch 8 --threads 2 --repeat 5

One process runs the model for a while, then two at once, in turns. On cores that are shared fairly
each of the two gets half; what of that is missing they spent waiting for their own threads, which
had no core. Prints runs per second and, of two at once, each one's share of the lone one's: 0.45 is
0.9 of half. On a machine where others compute too, which take more from one process than from two,
the second figure says more: runs per second of processor time, spinning included, beside a
neighbour over alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

_CHILD = """
import sys, time
import numpy as np
from activsparse import Session
path, threads, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
name, shape = Session(path, threads=1, tune=False).inputs[0]
session = Session(path, threads=threads, input_shapes={name: (batch, *shape[1:])}, tune=False)
x = np.random.default_rng(0).standard_normal((batch, *shape[1:]), np.float32)
session.run(x)
print("ready", flush=True)
for line in sys.stdin:
    runs, begin, used = 0, time.perf_counter(), time.process_time()
    end = begin + float(line)
    while (now := time.perf_counter()) < end:
        session.run(x)
        runs += 1
    print(runs / (now - begin), runs / (time.process_time() - used), flush=True)
"""


class Neighbour:
    """A process that runs the model when it is told to."""

    def __init__(self, model: Path, threads: int, batch: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(model), str(threads), str(batch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def answer(self) -> str:
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            return line
        raise SystemExit("a process failed")

    def start(self, seconds: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{seconds}\n")
        self._process.stdin.flush()

    def rates(self) -> tuple[float, float]:
        """Runs per second, and per second of processor time."""
        rate, by_time = map(float, self.answer().split())
        return rate, by_time

    def end(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    both = [Neighbour(args.model, args.threads, args.batch) for _ in range(2)]
    for one in both:
        one.answer()
    shares, costs = [], []
    for _ in range(args.repeat):
        both[0].start(args.seconds)
        alone, alone_used = both[0].rates()
        for one in both:
            one.start(args.seconds)
        beside = [one.rates() for one in both]
        shares += [rate / alone for rate, _ in beside]
        costs += [used / alone_used for _, used in beside]
        texts = [f"{rate:.2f} ({rate / alone:.3f})" for rate, _ in beside]
        print(f"alone {alone:.2f} runs/s, two at once {' and '.join(texts)}", flush=True)
    for one in both:
        one.end()
    load = os.getloadavg()[0]
    print(
        f"median share {statistics.median(shares):.3f}, runs by processor time "
        f"{statistics.median(costs):.3f}, load at the end {load:.1f}"
    )


if __name__ == "__main__":
    main()
