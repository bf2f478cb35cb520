"""`python -m fuzz`: random graphs until time or cases are up; exit status 1 if any failed."""

from __future__ import annotations

import argparse
import json
import queue
import secrets
import tempfile
import threading
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx

from fuzz.doors import DOORS, Feed, Options, random_options
from fuzz.graphs import random_case
from fuzz.judge import kind_of
from fuzz.pool import Worker
from fuzz.shrink import shrink

_PYTHON = "PYTHONPATH=src:tests:tests/engine .venv/bin/python -m fuzz"


class Run:
    """What all workers have found so far."""

    def __init__(
        self, first: int, cases: int | None, seconds: float, out: Path, shrunk: int
    ) -> None:
        self.seeds: queue.Queue[int] = queue.Queue()
        self.next, self.last = first, None if cases is None else first + cases
        self.end, self.out, self.shrunk = time.monotonic() + seconds, out, shrunk
        self.lock = threading.Lock()
        self.counts: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.kinds: dict[str, dict[int, list[str]]] = {}  # message -> case -> doors

    def draw(self) -> int | None:
        """The next case's seed, or None where all is done."""
        with self.lock:
            if time.monotonic() > self.end or self.next == self.last:
                return None
            self.next += 1
            return self.next - 1

    def note(self, seed: int, verdict: dict) -> list[tuple[str, str]]:
        """Count a verdict; returns the failures (door, message) worth shrinking."""
        with self.lock:
            self.counts["cases"] += 1
            if verdict["oracle"]:
                self.counts["not run by ONNX Runtime"] += 1
                self.refused[f"(oracle) {kind_of(verdict['oracle'])}"] += 1
            self.counts.update(f"{door}: right" for door in verdict["passed"])
            for door, text in verdict["refusals"].items():
                self.counts[f"{door}: refused"] += 1
                self.refused[f"{door}: {kind_of(text)}"] += 1
            self.counts["failed cases"] += bool(verdict["failures"])
            new = []
            for door, text in verdict["failures"].items():
                self.counts[f"{door}: FAILED"] += 1
                seeds = self.kinds.setdefault(kind_of(text), {})
                if seed not in seeds and len(seeds) < self.shrunk:
                    new.append((door, text))
                seeds.setdefault(seed, []).append(door)
            return new


def serve(run: Run, optimised: bool) -> None:
    """Judge cases in a worker of this thread's own."""
    worker = Worker(optimised)
    while (seed := run.draw()) is not None:
        for door, text in run.note(seed, worker.ask({"seed": seed})):
            print(f"FAILED case {seed}, {door}: {text}", flush=True)
            print(f"  {smaller(worker, seed, door, text, run.out)}", flush=True)
    worker.close()


def smaller(worker: Worker, seed: int, door: str, text: str, out: Path) -> str:
    """Shrink a failing case; returns the command that repeats it."""
    case, options = random_case(seed), random_options(seed)
    doors = list(DOORS) if door == "process" else [door]
    wanted = kind_of(text).split(":")[0]
    with tempfile.TemporaryDirectory() as folder:

        def fails(model: onnx.ModelProto, feed: Feed, options: Options) -> bool:
            path = write(Path(folder) / "try.onnx", model, feed)
            verdict = worker.ask({"path": str(path), "options": asdict(options), "doors": doors})
            return any(kind_of(t).split(":")[0] == wanted for t in verdict["failures"].values())

        model, feed = case.model, case.feed
        if fails(model, feed, options):
            model, feed, options = shrink(model, feed, options, fails)
    out.mkdir(parents=True, exist_ok=True)
    path = write(out / f"{door}-{seed}.onnx", model, feed)
    left = {k: v for k, v in asdict(options).items() if v != getattr(Options(""), k)}
    return f"{_PYTHON} --file {path} --doors {' '.join(doors)} --options '{json.dumps(left)}'"


def write(path: Path, model: onnx.ModelProto, feed: Feed) -> Path:
    """Write a model, and its inputs beside it."""
    onnx.save(model, path)
    np.savez(path.with_suffix(".npz"), **feed)
    return path


def report(run: Run, first: int, seconds: float) -> int:
    """Print the counts, the reasons for refusals and the kinds of failure."""
    print(f"\n{run.counts['cases']} random graphs, seeds from {first}, in {seconds:.0f} s")
    for name, count in sorted(run.counts.items()):
        print(f"  {count:7d}  {name}")
    print("refused because:")
    for name, count in run.refused.most_common(25):
        print(f"  {count:7d}  {name}")
    for name, seeds in sorted(run.kinds.items(), key=lambda item: -len(item[1])):
        doors = sorted({door for found in seeds.values() for door in found})
        some = ", ".join(map(str, list(seeds)[:5]))
        print(f"FAILED {len(seeds):5d}  {name}  ({', '.join(doors)}; cases {some})")
    print(f"{run.counts['failed cases']} of {run.counts['cases']} cases failed")
    return 1 if run.kinds else 0


def once(path: Path, doors: list[str], options: dict) -> int:
    """Judge a saved case; prints the verdict."""
    options.setdefault("isa", random_options(0).isa)
    job = {"path": str(path.absolute()), "options": asdict(Options(**options)), "doors": doors}
    verdict = Worker().ask(job)
    print(json.dumps(verdict, indent=1))
    return 1 if verdict["failures"] else 0


def main() -> int:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--minutes", type=float, help="how long (default: 1, or all --cases)")
    parser.add_argument("--cases", type=int, help="how many graphs")
    parser.add_argument("--seed", type=int, help="the first case (default: a fresh one, printed)")
    parser.add_argument("--jobs", type=int, default=1, help="workers side by side")
    parser.add_argument("--out", type=Path, default=Path("build/fuzz"), help="for failing cases")
    parser.add_argument("--shrink", type=int, default=2, help="how many cases of each failure")
    parser.add_argument("--file", type=Path, help="judge this case alone, its .npz beside it")
    parser.add_argument("--doors", nargs="+", default=list(DOORS), choices=DOORS)
    parser.add_argument("--options", type=json.loads, default={}, help="of --file, as JSON")
    args = parser.parse_args()
    if args.file:
        return once(args.file, args.doors, args.options)
    first = secrets.randbelow(10**9) if args.seed is None else args.seed
    minutes = args.minutes or (1 if args.cases is None else 24 * 60)
    print(f"fuzz: seed {first}", flush=True)
    run = Run(first, args.cases, minutes * 60, args.out, args.shrink)
    begin = time.monotonic()
    threads = [threading.Thread(target=serve, args=(run, i % 2 == 1)) for i in range(args.jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return report(run, first, time.monotonic() - begin)


if __name__ == "__main__":
    raise SystemExit(main())
