"""The figures of `make bench` as CSV: one file per machine, one line per engine and model."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from activsparse.bench.compare import OWN_ENGINE
from activsparse.bench.machine import summary_line
from activsparse.bench.timing import Ratio
from activsparse.files import atomic_path

FOLDER = Path(__file__).parent / "results"
DENSE = "dense"


@dataclass(frozen=True)
class Result:
    """One engine on one network with one mask. Times are the wall clock's, milliseconds."""

    date: str
    machine: str
    engine: str
    version: str
    model: str
    pattern: str  # "dense", or one of `masks.PATTERNS`
    requested: float
    achieved: float  # mean over the masked layers of the share of output positions skipped
    threads: int
    repeat: int
    median_ms: float
    mad_ms: float
    vs_best_dense_peer: float  # times as fast as the fastest other engine on the dense network
    vs_own_dense: float | None  # times as fast as this engine on the dense network

    @property
    def group(self) -> tuple[str, int]:
        """What is measured in one interleaved run."""
        return self.model, self.threads


def file_of(machine: dict[str, Any], folder: Path | None = None) -> Path:
    """The file of a machine: `amd-epyc-family-26-model-2-2-cores-avx512.csv`."""
    words = f"{machine['cpu']} {machine['cores']} cores {machine['instruction_sets'][-1]}"
    return (folder or FOLDER) / (re.sub(r"[^a-z0-9]+", "-", words.lower()).strip("-") + ".csv")


def read(path: Path) -> list[Result]:
    """Read a file of results; none if there is no such file."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [_result(row) for row in csv.DictReader(file)]


def _result(row: dict[str, str]) -> Result:
    kinds = {"str": str, "int": int, "float": float}
    values: dict[str, Any] = {}
    for column in fields(Result):
        kind = kinds[str(column.type).partition(" ")[0]]
        values[column.name] = kind(row[column.name]) if row[column.name] else None
    return Result(**values)


def merge(path: Path, new: Sequence[Result]) -> None:
    """Add results to a file, in place of those of the same network and number of threads."""
    replaced = {result.group for result in new}
    kept = [result for result in read(path) if result.group not in replaced]
    rows = sorted([*kept, *new], key=lambda result: result.group)
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(
            file, [column.name for column in fields(Result)], lineterminator="\n"
        )
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)


@dataclass(frozen=True)
class Variant:
    """A file that was timed: its mask, as the columns of `Result` say it."""

    pattern: str = DENSE
    requested: float = 0.0
    achieved: float = 0.0


def from_comparison(
    comparison: dict[str, Any],
    model: str,
    variants: dict[str, Variant],
    *,
    date: str,
    repeat: int,
) -> list[Result]:
    """Turn what `activsparse bench --json` wrote into results.

    Args:
        comparison: the content of the JSON file.
        model: name of the network.
        variants: path of every model file to what it is.
        date: when it was measured, ISO format.
        repeat: timed runs per row.
    """
    best = comparison["best_dense"]["visits_ms"]
    rows = comparison["rows"]
    dense = {row["engine"]: row["visits_ms"] for row in rows if row["variant"] == DENSE}
    return [
        Result(
            date=date,
            machine=summary_line(comparison["machine"]),
            engine=row["engine"],
            version=row["version"],
            model=model,
            **vars(variants[row["model"]]),
            threads=row["threads"],
            repeat=repeat,
            median_ms=round(row["median_ms"], 4),
            mad_ms=round(row["mad_ms"], 4),
            vs_best_dense_peer=_ratio(best, row),
            vs_own_dense=_ratio(dense[row["engine"]], row),
        )
        for row in rows
    ]


def _ratio(yardstick_ms: list[float], row: dict[str, Any]) -> float:
    return round(Ratio.of_rounds(yardstick_ms, row["visits_ms"]).median, 4)


def own(results: Iterable[Result]) -> list[Result]:
    """The results of this project's engine."""
    return [result for result in results if result.engine == OWN_ENGINE]


def peers(results: Iterable[Result]) -> list[Result]:
    """The results of the other engines on dense networks."""
    return [result for result in results if result.engine != OWN_ENGINE]
