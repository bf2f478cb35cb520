"""Fit the cost model of engine/choose.py to the table that auto_table.py measured.

The model says that a convolution takes as long as its multiply-adds or as fetching its weights,
whichever is more. Fitted are the multiply-adds that take as long as a byte (`_MACS_PER_BYTE`) and
what Winograd's transforms add (`_TRANSFORMS`), by least squares of logarithms over all layers,
sparsities and algorithms of the table. Printed besides: how far estimates are off, and what it
costs to choose by them on dense layers.

    python benchmarks/fit_costs.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
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
    """All times of convolutions with one group that are no pointwise ones."""
    rows = {
        (*row["kernel"], *row["stride"], row["in_channels"], row["out_channels"], *row["output"]): (
            row["times"]
        )
        for row in json.loads(table.read_text("utf-8"))["layers"]
        if row["group"] == 1
    }
    for layer in {conv_shape(layer): layer for name in NETWORKS for layer in MODELS[name]}.values():
        conv = conv_shape(layer)
        key = (*conv.kernel, *conv.stride, conv.in_channels, conv.out_channels, *conv.output)
        for algorithm, times in rows.get(key, {}).items():
            sparsities = [s for s in SPARSITIES if s or algorithm != "active_taps"]
            for sparsity, (_, ms) in zip(sparsities, times, strict=True):
                request = _request(layer, algorithm, sparsity)
                macs, weight_bytes = work(request, request.slim(), algorithm, isa)
                share = 1 / layer.inputs + 1 / layer.outputs
                transforms = share if algorithm.startswith("winograd") else 0.0
                macs /= 1 + choose._TRANSFORMS * transforms
                yield Point(layer, algorithm, sparsity, macs, transforms, weight_bytes, ms)


def _request(layer: Layer, algorithm: str, sparsity: float) -> Request:
    attributes, arrays, inputs, outputs = masked(layer, algorithm, sparsity)[0]
    return Request(Node("conv", layer.name, ("x",), ("y",), attributes, arrays), inputs, outputs)


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, default=TABLE)
    args = parser.parse_args()
    isa = str(json.loads(args.table.read_text("utf-8"))["isa"])
    found = list(points(args.table, isa))
    macs, transforms, weights, ms = (
        np.array([getattr(p, name) for p in found])
        for name in ("macs", "transforms", "weight_bytes", "ms")
    )

    def misses(per_byte: float, added: float) -> np.ndarray:
        costs = np.log(np.maximum(macs * (1 + added * transforms), per_byte * weights))
        miss: np.ndarray = np.log(ms) - costs
        return miss - miss.mean()

    grid = [(b, t) for b in np.arange(0.5, 8.01, 0.1) for t in np.arange(0.0, 16.1, 0.5)]
    best = min(grid, key=lambda pair: float(np.mean(misses(*pair) ** 2)))
    print(f"{isa}: _MACS_PER_BYTE {best[0]:.1f}, _TRANSFORMS {best[1]:.1f}")
    present = choose._MACS_PER_BYTE[isa], choose._TRANSFORMS
    for name, pair in (("fitted", best), ("present", present)):
        miss = misses(*pair)
        off, most = np.sqrt(np.mean(miss**2)), np.abs(miss).max()
        print(f"{name}: off by {off:.1%} ({most:.0%} at most), {regret(found, miss)}")


def regret(found: list[Point], miss: np.ndarray) -> str:
    """What choosing by estimates costs on the dense layers."""
    by_layer: dict[Layer, list[tuple[float, float]]] = {}
    for point, off in zip(found, miss, strict=True):
        if point.sparsity == 0 and point.algorithm != "active_taps":
            estimated = np.log(point.ms) - off
            by_layer.setdefault(point.layer, []).append((estimated, point.ms))
    losses = [min(pairs)[1] / min(ms for _, ms in pairs) - 1 for pairs in by_layer.values()]
    share, most = np.mean(losses), max(losses)
    return f"dense layers chosen by it {share:.1%} slower than the best ({most:.0%} at most)"


if __name__ == "__main__":
    main()
