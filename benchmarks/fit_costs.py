"""Fit the cost model of engine/choose.py to tables that auto_table.py measured.

The model says that a convolution takes as long as its multiply-adds or as fetching its weights,
whichever is more, and `direct` a share of the second on top of the first. Fitted are the
multiply-adds that take as long as a byte (`_MACS_PER_BYTE`), that share (`_NOT_HIDDEN`) and what
Winograd's transforms add (`_TRANSFORMS`), by least squares of logarithms over all layers,
sparsities and algorithms of the tables. Printed besides, for each table: how far estimates are off,
and what it costs to choose by them.

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
from auto_table import SPARSITIES, TABLE, conv_shape, masked
from kernels import MODELS, Layer

from activsparse.engine import choose
from activsparse.engine.choose import Request, work
from activsparse.engine.graph import Node

NETWORKS = ("resnet18", "resnet50", "vgg16")


@dataclass(frozen=True)
class Point:
    """One measured time, and what the model knows of it."""

    layer: Layer
    algorithm: str
    sparsity: float
    macs: float
    transforms: float
    weight_bytes: float
    ms: float


def points(table: Path, isa: str) -> Iterator[Point]:
    """All times of convolutions with one group that are no pointwise ones.

    Those of `active_taps` are left out: they were measured with a mask at the input too.
    """
    rows = {
        (*row["kernel"], *row["stride"], row["in_channels"], row["out_channels"], *row["output"]): (
            row["times"]
        )
        for row in json.loads(table.read_text("utf-8"))["layers"]
        if row["group"] == 1 and row["kernel"] != [1, 1]
    }
    for layer in {conv_shape(layer): layer for name in NETWORKS for layer in MODELS[name]}.values():
        conv = conv_shape(layer)
        key = (*conv.kernel, *conv.stride, conv.in_channels, conv.out_channels, *conv.output)
        for algorithm, times in rows.get(key, {}).items():
            if algorithm == "active_taps":
                continue
            for sparsity, (_, ms) in zip(SPARSITIES, times, strict=True):
                request = _request(layer, algorithm, sparsity)
                macs, weight_bytes = work(request, request.slim(), algorithm, isa)
                share = 1 / layer.inputs + 1 / layer.outputs
                transforms = share if algorithm.startswith("winograd") else 0.0
                macs /= 1 + choose._TRANSFORMS * transforms
                yield Point(layer, algorithm, sparsity, macs, transforms, weight_bytes, ms)


def _request(layer: Layer, algorithm: str, sparsity: float) -> Request:
    attributes, arrays, inputs, outputs = masked(layer, algorithm, sparsity)[0]
    return Request(Node("conv", layer.name, ("x",), ("y",), attributes, arrays), inputs, outputs)


class Table:
    """All points of a table, as arrays."""

    def __init__(self, path: Path) -> None:
        content = json.loads(path.read_text("utf-8"))
        self.isa, self.title = str(content["isa"]), f"{content['machine']}, {content['isa']}"
        self.points = list(points(path, self.isa))
        self.macs, self.transforms, self.weights, self.ms = (
            np.array([getattr(p, name) for p in self.points])
            for name in ("macs", "transforms", "weight_bytes", "ms")
        )
        self.direct = np.array([p.algorithm == "direct" for p in self.points])

    def misses(self, per_byte: float, not_hidden: float, added: float) -> np.ndarray:
        """Logarithms of measured times over estimates, on average 0."""
        fetching = per_byte * self.weights
        macs = self.macs * (1 + added * self.transforms) + not_hidden * fetching * self.direct
        miss: np.ndarray = np.log(self.ms / np.maximum(macs, fetching))
        return miss - miss.mean()


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, nargs="+", default=[TABLE])
    tables = [Table(path) for path in parser.parse_args().table]
    grid = product(np.arange(0.5, 8.01, 0.1), np.arange(0.0, 1.01, 0.1), np.arange(0.0, 16.1, 1.0))
    best = min(grid, key=lambda fit: sum(float(np.mean(t.misses(*fit) ** 2)) for t in tables))
    print("_MACS_PER_BYTE {:.1f}, _NOT_HIDDEN {:.1f}, _TRANSFORMS {:.1f}".format(*best))
    for table in tables:
        present = choose._MACS_PER_BYTE[table.isa], choose._NOT_HIDDEN, choose._TRANSFORMS
        for name, fit in (("fitted", best), ("present", present)):
            miss = table.misses(*fit)
            off, most = np.sqrt(np.mean(miss**2)), np.abs(miss).max()
            print(
                f"{table.title}, {name}: off by {off:.1%} ({most:.0%} at most), "
                f"{regret(table.points, miss)}"
            )


def regret(found: list[Point], miss: np.ndarray) -> str:
    """What choosing by estimates costs."""
    by_layer: dict[tuple[Layer, float], list[tuple[float, float]]] = {}
    for point, off in zip(found, miss, strict=True):
        estimated = np.log(point.ms) - off
        by_layer.setdefault((point.layer, point.sparsity), []).append((estimated, point.ms))
    losses = [min(pairs)[1] / min(ms for _, ms in pairs) - 1 for pairs in by_layer.values()]
    share, most = np.mean(losses), max(losses)
    return f"layers chosen by it {share:.1%} slower than the best ({most:.0%} at most)"


if __name__ == "__main__":
    main()
