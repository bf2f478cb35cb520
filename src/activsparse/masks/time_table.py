"""Tables of measured times: one per machine, shipped or calibrated.

A table is a JSON file: `machine` (the processor, as the engine names it), `isa`, `threads`, `date`,
`fill_ms` (per value that fill `nearest` copies; tables from before it was measured lack it), and
`layers`, each with its shape and `times`: algorithm -> [multiply-adds done, ms] at several
sparsities. `activsparse calibrate` measures one. What masks cost by default is always reckoned by
the same table, so that pattern `auto` gives the same masks on every machine; a mask plan is made by
that of the machine it is for.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from activsparse.errors import ActivsparseError, Call
from activsparse.files import require_file
from activsparse.masks.shape import ConvShape

__all__ = [
    "DEFAULT",
    "TimeTable",
    "choose_table",
    "default_table",
    "read_table",
    "shipped_tables",
    "table_of",
]

_FILL_MS = 1e-7
"""Of tables without `fill_ms`: as much as machines measured since take."""

DEFAULT = "amd-epyc-family-26-model-2-avx512"
"""The shipped table that pattern `auto` chooses by."""


@dataclass(frozen=True, eq=False)
class TimeTable:
    """Times of one machine.

    Attributes:
        machine: name of its processor.
        isa: instruction set of the engine.
        threads: of the engine.
        lines: layer -> algorithm -> (fixed, rate), in ms per multiply-add, see `masks.latency`.
        fill_ms: per value that fill `nearest` copies.
    """

    machine: str
    isa: str
    threads: int
    lines: dict[ConvShape, dict[str, tuple[float, float]]]
    fill_ms: float = _FILL_MS

    def __str__(self) -> str:
        threads = f"{self.threads} thread" + "s" * (self.threads > 1)
        return f"{self.machine}, {self.isa}, {threads}"


def choose_table(
    machine: str, isa: str, threads: int, calibrated: Path | None = None
) -> tuple[TimeTable, str]:
    """The table for a machine, and one line that says where its times come from.

    Args:
        machine: its processor, as the engine names it.
        isa: instruction set.
        threads: of the engine.
        calibrated: file that `activsparse calibrate` writes on this machine, if it is there.

    Raises:
        ActivsparseError: the calibrated file is damaged.
    """
    if calibrated is not None and calibrated.is_file():
        return read_table(calibrated), f"times measured on this machine ({calibrated})"

    def strangeness(table: TimeTable) -> tuple[bool, bool, bool, bool]:
        vendor = machine.split()[0] != table.machine.split()[0]
        return table.isa != isa, table.machine != machine, vendor, table.threads != threads

    table = min(shipped_tables().values(), key=strangeness)
    if not any(strangeness(table)):
        return table, f"times measured on such a machine before ({table})"
    return table, (
        f"times estimated from those of another machine ({table}); "
        "activsparse calibrate measures this one"
    )


def default_table() -> TimeTable:
    """The same table on every machine."""
    return shipped_tables()[DEFAULT]


@lru_cache(maxsize=1)
def shipped_tables() -> dict[str, TimeTable]:
    """The tables that come with the package, by name."""
    folder = resources.files("activsparse.masks").joinpath("tables")
    return {
        file.name.removesuffix(".json"): table_of(json.loads(file.read_text("utf-8")))
        for file in sorted(folder.iterdir(), key=lambda file: file.name)
        if file.name.endswith(".json")
    }


def read_table(path: Path) -> TimeTable:
    """Read a table.

    Raises:
        ActivsparseError: no such file, or no table.
    """
    try:
        return table_of(json.loads(require_file(path).read_bytes()))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ActivsparseError(
            f"{path}: is no table of times, or damaged ({error}); delete it, or measure it anew "
            "with ",
            Call("activsparse.engine.calibrate.calibrate"),
        ) from error


def table_of(values: Any) -> TimeTable:
    """The table that a file's values describe; ValueError, TypeError or KeyError if none."""
    lines = {}
    for row in values["layers"]:
        conv = ConvShape(
            kernel=_pair(row["kernel"]),
            stride=_pair(row["stride"]),
            group=int(row["group"]),
            in_channels=int(row["in_channels"]),
            out_channels=int(row["out_channels"]),
            output=_pair(row["output"]),
        )
        dense = conv.macs
        points = {name: np.array(of_one, np.float64) for name, of_one in row["times"].items()}
        if not points or any(p.ndim != 2 or not (p > 0).all() for p in points.values()):
            raise ValueError(f"impossible times of {row['times']}"[:80])
        lines[conv] = {name: _line(of_one, dense) for name, of_one in points.items()}
    if not lines:
        raise ValueError("holds no layers")
    fill_ms = float(values.get("fill_ms", _FILL_MS))
    if not (math.isfinite(fill_ms) and fill_ms >= 0):
        raise ValueError("fill_ms is no time")
    machine, isa = str(values["machine"]), str(values["isa"])
    return TimeTable(machine, isa, int(values["threads"]), lines, fill_ms)


def _pair(values: Any) -> tuple[int, int]:
    first, second = (int(value) for value in values)
    return first, second


def _line(points: npt.NDArray[np.float64], dense: int) -> tuple[float, float]:
    """Fit (multiply-adds, ms) by least squares of relative errors; neither part is negative."""
    done, ms = points.T
    columns = np.stack([np.full_like(done, dense), done], axis=1)
    fixed, rate = np.linalg.lstsq(columns / ms[:, None], np.ones_like(ms), rcond=None)[0]
    if not (math.isfinite(fixed) and math.isfinite(rate)):
        raise ValueError("times are no numbers")
    if rate < 0:
        return float(np.mean(ms) / dense), 0.0
    if fixed < 0:
        return 0.0, float(np.mean(ms / done))
    return float(fixed), float(rate)
