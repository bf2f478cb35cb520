"""What a convolution costs, estimated from a table of measured times.

A table (see `masks.time_table`) holds, for layers of known networks and each algorithm of the
engine, the times at several amounts of work on one machine. Per layer and algorithm a line is
fitted,

    ms = fixed * (multiply-adds of the dense layer) + rate * (multiply-adds done),

where what is done are the kept positions' multiply-adds; for Winograd, products of tiles times
pairs of channels; for `active_taps`, which leaves out inputs that are known to be zero too, the
share of kept positions times that of live inputs. A layer that is not in the table takes both
coefficients of the most similar one: of the same kernel, stride and kind (depthwise or not) where
there is one, the nearest in channels and positions, each compared by the logarithm of its ratio. A
kernel that is not in the table takes those of another one, without Winograd.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import log

import numpy as np
import numpy.typing as npt

from activsparse.masks.arrays import Mask
from activsparse.masks.shape import ConvShape
from activsparse.masks.tiles import RUNS, Kept, axis_products, products, run_for, tiles
from activsparse.masks.time_table import TimeTable, default_table

__all__ = ["LayerCost", "dense_ms", "layer_cost", "layer_ms", "mask_ms"]

FloatArray = npt.NDArray[np.float64]

_LIVE = "active_taps"
# The engine tries it where an input is known to be zero, and on maps of at most so many
# positions with a mask alone.
_SMALL_MAP = 64


def dense_ms(conv: ConvShape, table: TimeTable | None = None) -> float:
    """Estimated time of a layer without masks, one image, in ms; by the default table."""
    return layer_cost(conv, table).ms(1.0)


def layer_ms(conv: ConvShape, pattern: str, sparsity: float, input_sparsity: float = 0.0) -> float:
    """Estimated time of a masked layer, one image, one thread, in ms.

    Args:
        conv: the layer.
        pattern: `random`, `lattice`, `tiles`, or `auto` for the better of the last two.
        sparsity: of its mask, in [0, 1); `tiles` rounds it as `masks.tiles` does.
        input_sparsity: share of the input's positions that an earlier layer's mask leaves zero.
    """
    cost, live = layer_cost(conv), 1 - input_sparsity
    times = []
    if pattern != "tiles":
        times.append(cost.ms(1 - sparsity, live=live))
    if pattern in ("tiles", "auto"):
        runs = RUNS if pattern == "auto" else (run_for(conv.output),)
        masks = (tiles(conv.output, sparsity, run=run) for run in runs)
        times += [mask_ms(conv, mask, input_sparsity) for mask in masks]
    return min(times)


def mask_ms(
    conv: ConvShape, mask: Mask, input_sparsity: float = 0.0, table: TimeTable | None = None
) -> float:
    """Estimated time of a layer under a given mask, one image, in ms.

    Args:
        conv: the layer.
        mask: bool (OH, OW), True = computed; seen for what it is, gapped tiles or scattered holes.
        input_sparsity: share of the input's positions that an earlier layer's mask leaves zero.
        table: of measured times, the default one where none is given.
    """
    rows, columns = np.asarray(mask.any(axis=1)), np.asarray(mask.any(axis=0))
    found: list[Kept | None] = [None]
    if np.array_equal(mask, np.logical_and.outer(rows, columns)):
        counts = int(rows.sum()), int(columns.sum())
        found += [Kept(*counts, run) for run in RUNS if _fits(rows, run) and _fits(columns, run)]
    cost = layer_cost(conv, table)
    return min(cost.ms(float(mask.mean()), tile, 1 - input_sparsity) for tile in found)


def _fits(kept: Mask, run: int) -> bool:
    """Whether an axis needs no more tiles than its kept positions would without gaps."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], kept, [False]]).astype(np.int8)))
    lengths = edges[1::2] - edges[::2]
    return int(np.sum(-(-lengths // run))) == -(-int(kept.sum()) // run)


@dataclass(frozen=True)
class LayerCost:
    """Estimated times of one layer.

    Attributes:
        conv: the layer.
        lines: algorithm -> (fixed, rate), see the module; both in ms per multiply-add.
    """

    conv: ConvShape
    lines: dict[str, tuple[float, float]]

    @property
    def runs(self) -> list[int]:
        """Sides of the Winograd tiles that the layer can be computed in."""
        return sorted({winograd_run(name) for name in self.lines if name.startswith("winograd")})

    def ms(self, kept: float, tile: Kept | None = None, live: float = 1.0) -> float:
        """Time of the fastest algorithm.

        Args:
            kept: share of positions computed.
            tile: rows and columns of a `tiles` mask; without it Winograd computes all tiles.
            live: share of input positions that are not known to be zero.
        """
        times = [self._ms(name, kept, tile) for name in self.lines if name != _LIVE]
        if live < 1 or (kept < 1 and self.conv.positions <= _SMALL_MAP):
            times.append(float(self.live_ms(np.array(kept), np.array(live))))
        return min(times)

    def live_ms(self, kept: FloatArray, live: FloatArray) -> FloatArray:
        """Times of the algorithm that leaves out inputs which are zero, infinite where it cannot.

        Args:
            kept: shares of positions computed.
            live: shares of input positions that are not known to be zero; the shapes broadcast.
        """
        if _LIVE not in self.lines:
            return np.full(np.broadcast_shapes(kept.shape, live.shape), np.inf)
        fixed, rate = self.lines[_LIVE]
        dense = self.conv.macs
        return np.asarray(dense * (fixed + rate * kept * live))

    def _ms(self, algorithm: str, kept: float, tile: Kept | None) -> float:
        fixed, rate = self.lines[algorithm]
        conv = self.conv
        dense = conv.macs
        done = kept * dense
        if algorithm.startswith("winograd"):
            run = winograd_run(algorithm)
            tile = tile or Kept(*conv.output, run)
            axes = zip(conv.output, tile[:2], conv.stride, strict=True)
            done = float(conv.in_channels * conv.out_channels)
            for size, rows, stride in axes:
                done *= axis_products(size, rows, tile.run, run, stride)
        return fixed * dense + rate * done


def winograd_macs(conv: ConvShape, rows: int, columns: int, run: int) -> float:
    """Products of so many kept rows x columns times pairs of channels."""
    tiles = int(products(rows, run, conv.stride[0])) * int(products(columns, run, conv.stride[1]))
    return float(tiles * conv.in_channels * conv.out_channels)


def winograd_run(algorithm: str) -> int:
    """Side of the output tiles of `winograd4`, `winograd2_s2` and so on."""
    return int(algorithm.removeprefix("winograd")[0])


@lru_cache(maxsize=4096)
def layer_cost(conv: ConvShape, table: TimeTable | None = None) -> LayerCost:
    """Look a layer up, or the most similar one, in a table, by default the default one."""
    known = (default_table() if table is None else table).lines
    nearest = min(known, key=lambda other: _distance(conv, other))
    lines = known[nearest]
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
