"""What a convolution costs, estimated from a table of measured times.

The table (`latency.json`) holds, for layers of known networks and each algorithm of the engine, the
times at several amounts of work, and names the machine; `benchmarks/auto_table.py` measures it. Per
layer and algorithm a line is fitted,

    ms = fixed * (multiply-adds of the dense layer) + rate * (multiply-adds done),

where what is done are the kept positions' multiply-adds or, for Winograd, products of tiles times
pairs of channels. A layer that is not in the table takes both coefficients of the most similar one:
of the same kernel, stride and kind (depthwise or not) where there is one, the nearest in channels
and positions, each compared by the logarithm of its ratio. A kernel that is not in the table takes
those of another one, without Winograd.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from math import log

import numpy as np

from activsparse.masks.shape import ConvShape
from activsparse.masks.tiles import Kept, products

__all__ = ["LayerCost", "layer_cost"]


@dataclass(frozen=True)
class LayerCost:
    """Estimated times of one layer.

    Attributes:
        conv: the layer.
        lines: algorithm -> (fixed, rate), see the module; both in ms per multiply-add.
    """

    conv: ConvShape
    lines: dict[str, tuple[float, float]]

    def ms(self, kept: float, tile: Kept | None = None) -> float:
        """Time of the fastest algorithm.

        Args:
            kept: share of positions computed.
            tile: rows and columns of a `tiles` mask; without it Winograd computes all tiles.
        """
        return min(self._ms(name, kept, tile) for name in self.lines)

    def _ms(self, algorithm: str, kept: float, tile: Kept | None) -> float:
        fixed, rate = self.lines[algorithm]
        conv = self.conv
        done: float = kept * conv.positions * conv.macs_per_position
        if algorithm.startswith("winograd"):
            rows, columns = conv.output if tile is None else tile[:2]
            done = winograd_macs(conv, rows, columns, winograd_run(algorithm))
        return fixed * conv.positions * conv.macs_per_position + rate * done


def winograd_macs(conv: ConvShape, rows: int, columns: int, run: int) -> float:
    """Products of so many kept rows x columns times pairs of channels."""
    tiles = int(products(rows, run, conv.stride[0])) * int(products(columns, run, conv.stride[1]))
    return float(tiles * conv.in_channels * conv.out_channels)


def winograd_run(algorithm: str) -> int:
    """Side of the output tiles of `winograd4`, `winograd2_s2` and so on."""
    return int(algorithm.removeprefix("winograd")[0])


@lru_cache(maxsize=1024)
def layer_cost(conv: ConvShape) -> LayerCost:
    """Look a layer up, or the most similar one."""
    table = _table()
    nearest = min(table, key=lambda other: _distance(conv, other))
    lines = table[nearest]
    if not conv.winograd:
        lines = {k: line for k, line in lines.items() if not k.startswith("winograd")}
    return LayerCost(conv, lines)


def _distance(conv: ConvShape, other: ConvShape) -> tuple[bool, bool, bool, float]:
    sizes = (
        (conv.in_channels, other.in_channels),
        (conv.out_channels, other.out_channels),
        (conv.positions, other.positions),
    )
    return (
        (conv.group > 1) != (other.group > 1),
        conv.kernel != other.kernel,
        conv.stride != other.stride,
        sum(abs(log(a / b)) for a, b in sizes),
    )


@lru_cache(maxsize=1)
def _table() -> dict[ConvShape, dict[str, tuple[float, float]]]:
    """Layer -> algorithm -> (fixed, rate)."""
    text = resources.files("activsparse.masks").joinpath("latency.json").read_text("utf-8")
    table = {}
    for row in json.loads(text)["layers"]:
        conv = ConvShape(
            kernel=tuple(row["kernel"]),
            stride=tuple(row["stride"]),
            group=row["group"],
            in_channels=row["in_channels"],
            out_channels=row["out_channels"],
            output=tuple(row["output"]),
        )
        dense = conv.positions * conv.macs_per_position
        table[conv] = {
            name: _line(np.array(points), dense) for name, points in row["times"].items()
        }
    return table


def _line(points: np.ndarray, dense: int) -> tuple[float, float]:
    """Fit (multiply-adds, ms) by least squares of relative errors; neither part is negative."""
    done, ms = points.T
    columns = np.stack([np.full_like(done, dense), done], axis=1)
    fixed, rate = np.linalg.lstsq(columns / ms[:, None], np.ones_like(ms), rcond=None)[0]
    if rate < 0:
        return float(np.mean(ms) / dense), 0.0
    if fixed < 0:
        return 0.0, float(np.mean(ms / done))
    return float(fixed), float(rate)
