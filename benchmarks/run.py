"""Time networks, dense and masked, on every installed engine, and compare with the targets.

    make bench
    make bench ARGS="--models resnet18 --patterns tiles lattice --threads 2"

Each network is measured in one interleaved run per number of threads, in a process of its own that
is held to as many cores: times are the wall clock's, medians. The other engines run the dense
network only. The figures go to a CSV file per machine in benchmarks/results; what is there already
is not measured again unless --force. benchmarks/publish.py makes tables and the plot of it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import networks
import results
import targets
from rich.console import Console

from activsparse.bench.engines import ENGINES, is_installed
from activsparse.bench.machine import describe_machine

OFF_BY_DEFAULT = ("inductor",)

console = Console(highlight=False)


@dataclass(frozen=True)
class Suite:
    """What every network is measured with, and where the figures go."""

    engines: list[str]
    patterns: list[str]
    sparsities: list[float]
    repeat: int
    build: Path
    csv: Path

    def is_done(self, run: tuple[str, int], known: list[results.Result]) -> bool:
        """Whether results hold all engines and masks of one network and number of threads."""
        there = [result for result in known if result.group == run]
        masks = {(pattern, sparsity) for pattern in self.patterns for sparsity in self.sparsities}
        return set(self.engines) <= {result.engine for result in there} and masks <= {
            (result.pattern, result.requested) for result in results.own(there)
        }

    def measure(self, name: str, threads: int, title: str) -> bool:
        """Measure one network and record it; False where that failed."""
        cores = _cores()
        if len(cores) < threads:
            console.print(f"{title}: only {len(cores)} core(s) may be used")
            return False
        begin = time.monotonic()
        console.print(f"{title}: preparing the files")
        variants = self._write_models(name)
        prepared = time.monotonic()
        console.print(f"{title}: checking outputs, then timing")
        comparison = self._time(list(variants), threads, self.build / f"{name}-{threads}.json")
        for file in list(variants)[1:]:  # gigabytes, and made anew in seconds
            Path(file).unlink()
        if comparison is None:
            return False
        date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
        new = results.from_comparison(comparison, name, variants, date=date, repeat=self.repeat)
        results.merge(self.csv, new)
        timed = time.monotonic()
        console.print(
            f"{title}: done in {prepared - begin:.0f} + {timed - prepared:.0f} s, in {self.csv}"
        )
        return True

    def _write_models(self, name: str) -> dict[str, results.Variant]:
        """Write the dense model and its masked copies; the dense one comes first."""
        dense = networks.export(name, self.build, self.engines)
        variants = {str(dense): results.Variant()}
        for pattern in self.patterns:
            for sparsity in self.sparsities:
                file, achieved = networks.masked(name, dense, pattern, sparsity)
                variants[str(file)] = results.Variant(pattern, sparsity, round(achieved, 4))
        return variants

    def _time(self, models: list[str], threads: int, path: Path) -> dict[str, Any] | None:
        """Run `activsparse bench` on as many cores as threads; None where it failed."""
        command = [
            *(sys.executable, "-m", "activsparse", "bench", "--dense", models[0]),
            *("--sparse", *models[1:], "--engines", ",".join(self.engines), "--peers-dense-only"),
            *("--threads", str(threads), "--repeat", str(self.repeat), "--json", str(path)),
        ]
        with _held_to(_cores()[-threads:]):
            status = subprocess.run(
                command, env={**os.environ, "OMP_NUM_THREADS": str(threads)}, check=False
            ).returncode
        return json.loads(path.read_text()) if status == 0 else None


def _cores() -> list[int]:
    """The cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


@contextmanager
def _held_to(cores: list[int]) -> Iterator[None]:
    """Let processes that are started meanwhile use only these cores, where the system can."""
    before = _cores()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, before)


def main() -> int:
    """Measure what is missing, then say which targets are met."""
    args = _parser().parse_args()
    suite = Suite(
        engines=_installed(args.engines),
        patterns=args.patterns,
        sparsities=args.sparsity,
        repeat=args.repeat,
        build=args.build,
        csv=args.csv or results.file_of(describe_machine()),
    )
    suite.build.mkdir(parents=True, exist_ok=True)
    known = [] if args.force else results.read(suite.csv)
    runs = [(name, threads) for name in args.models for threads in args.threads]
    todo = [run for run in runs if not suite.is_done(run, known)]
    if len(todo) < len(runs):
        console.print(f"{suite.csv} holds some of the runs already; --force repeats them")
    failed = []
    for index, (name, threads) in enumerate(todo):
        title = f"[{index + 1}/{len(todo)}] {name}, {threads} thread(s)"
        if not suite.measure(name, threads, title):
            failed.append(title)
    _report(results.read(suite.csv))
    for title in failed:
        console.print(f"{title}: NOT measured; the message above says why")
    return 1 if failed else 0


def _report(measured: list[results.Result]) -> None:
    console.print(targets.table(targets.check(measured)))
    for result in targets.off_sparsity(measured):
        console.print(
            f"{result.model} {result.pattern} {result.requested}: masks skip {result.achieved:.3f}"
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="+", choices=networks.NETWORKS, default=list(networks.NETWORKS)
    )
    parser.add_argument("--sparsity", nargs="+", type=float, default=list(networks.SPARSITIES))
    parser.add_argument(
        "--patterns", nargs="+", choices=networks.PATTERNS, default=list(networks.PATTERNS)
    )
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument(
        "--engines",
        nargs="+",
        choices=ENGINES,
        default=[name for name in ENGINES if name not in OFF_BY_DEFAULT],
        help="default: all but inductor (torch.compile); those not installed are left out",
    )
    parser.add_argument("--repeat", type=int, default=30, help="timed runs of each (default: 30)")
    parser.add_argument("--force", action="store_true", help="measure again what is there already")
    parser.add_argument("--csv", type=Path, help="default: a file per machine")
    parser.add_argument("--build", type=Path, default=Path("build/bench"), help="model files")
    return parser


def _installed(names: list[str]) -> list[str]:
    for name in names:
        if not is_installed(name):
            console.print(
                f"{name} is not installed and left out; "
                f"pip install 'activsparse[{ENGINES[name].extra}]'"
            )
    return [name for name in names if is_installed(name)]


if __name__ == "__main__":
    sys.exit(main())
