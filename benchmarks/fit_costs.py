"""Fit the cost model of native/choose/estimate.h to tables that auto_table.py measured.

The model says that a convolution takes as long as its multiply-adds or as fetching its weights,
whichever is more, and `direct` a share of the second on top of the first. Fitted are the
multiply-adds that take as long as a byte, that share, and what Winograd's transforms add, by least
squares of logarithms over all layers, sparsities and algorithms of the tables. Printed are lines
for native/choose/costs.inc, one for each table and one for all of an instruction set, and beside
them how far estimates are off, and what it costs to choose by them.

    python benchmarks/fit_costs.py [--table ONE.json ANOTHER.json]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
from auto_table import TABLES

from activsparse import _native
from activsparse.engine.calibrate import SPARSITIES, masked_layer
from activsparse.masks.shape import ConvShape


@dataclass(frozen=True)
class Point:
    """One measured time, and what the model knows of it."""

    layer: tuple[ConvShape, float]
    macs: float
    weight_bytes: float
    channels: float
    waits: bool
    ms: float


def points(rows: list[dict], isa: str) -> Iterator[Point]:
    """All times of convolutions with one group that are no pointwise ones.

    Those of `active_taps` are left out: they were measured with a mask at the input too.
    """
    for row in rows:
        times = row.pop("times")
        conv = ConvShape(**{k: tuple(v) if isinstance(v, list) else v for k, v in row.items()})
        if conv.group > 1 or conv.kernel == (1, 1):
            continue
        for algorithm, pairs in times.items():
            if algorithm == "active_taps":
                continue
            for sparsity, (_, ms) in zip(SPARSITIES, pairs, strict=True):
                parts, _ = masked_layer(conv, algorithm, sparsity)
                work = _native.work(_native.Spec("conv", *parts), algorithm, isa)
                yield Point((conv, sparsity), *work, ms)


class Table:
    """All points of a table, as arrays."""

    def __init__(self, path: Path) -> None:
        content = json.loads(path.read_text("utf-8"))
        self.path, self.isa, self.cpu = path, str(content["isa"]), str(content["machine"])
        self.points = list(points(content["layers"], self.isa))
        self.macs, self.weights, self.channels, self.waits, self.ms = (
            np.array([getattr(p, name) for p in self.points])
            for name in ("macs", "weight_bytes", "channels", "waits", "ms")
        )

    def misses(self, per_byte: float, not_hidden: float, added: float) -> np.ndarray:
        """Logarithms of measured times over estimates, on average 0."""
        fetching = per_byte * self.weights
        macs = self.macs * (1 + added * self.channels) + not_hidden * fetching * self.waits
        miss: np.ndarray = np.log(self.ms / np.maximum(macs, fetching))
        return miss - miss.mean()

    def told(self, costs: tuple[float, float, float]) -> str:
        """How far estimates with these constants are off."""
        miss = self.misses(*costs)
        off, most = np.sqrt(np.mean(miss**2)), np.abs(miss).max()
        return f"off by {off:.1%} ({most:.0%} at most), {self._regret(miss)}"

    def _regret(self, miss: np.ndarray) -> str:
        """What choosing by estimates costs."""
        by_layer: dict[object, list[tuple[float, float]]] = {}
        for point, off in zip(self.points, miss, strict=True):
            by_layer.setdefault(point.layer, []).append((np.log(point.ms) - off, point.ms))
        losses = [min(pairs)[1] / min(ms for _, ms in pairs) - 1 for pairs in by_layer.values()]
        share, most = np.mean(losses), max(losses)
        return f"layers chosen by it {share:.1%} slower than the best ({most:.0%} at most)"


def fit(tables: list[Table]) -> tuple[float, float, float]:
    """The constants that hold for all of these tables best."""
    grid = product(np.arange(0.5, 8.01, 0.1), np.arange(0.0, 1.01, 0.1), np.arange(0.0, 24.1, 1.0))
    return min(grid, key=lambda costs: sum(float(np.mean(t.misses(*costs) ** 2)) for t in tables))


def line(cpu: str, isa: str, costs: tuple[float, float, float]) -> str:
    """A line of native/choose/costs.inc."""
    per_byte, not_hidden, added = costs
    return f'COSTS("{cpu}", k{isa.capitalize()}, {per_byte:.1f}, {not_hidden:.1f}, {added:.0f})'


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, nargs="+", default=sorted(TABLES.glob("*.json")))
    tables = [Table(path) for path in parser.parse_args().table]
    for isa in dict.fromkeys(table.isa for table in tables):
        own = [table for table in tables if table.isa == isa]
        for table in own:
            costs = fit([table])
            print(f"{line(table.cpu, isa, costs)}  // {table.path.name}\n  {table.told(costs)}")
        costs = fit(own)
        print(line("", isa, costs))
        for table in own:
            print(f"  {table.path.name}: {table.told(costs)}")


if __name__ == "__main__":
    main()
