"""Sparsities of all layers under one target: so much faster at the least estimated loss.

A layer's loss is interpolated between measured sparsities (`sensitivity.py`), its time comes from
the table of measured times (`masks/latency.py`); losses and times of layers are taken to add up.
What remains is a knapsack with one choice per layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from activsparse.errors import ActivsparseError
from activsparse.masks import Mask
from activsparse.masks.latency import dense_ms, layer_ms, mask_ms
from activsparse.train.plan.knapsack import cheapest
from activsparse.train.plan.sensitivity import Sensitivity
from activsparse.train.sparsify.layers import ConvLayer

__all__ = ["estimated_speedup", "sparsities_for_speedup"]

_GRID = tuple(np.round(np.arange(0, 0.675, 0.025), 3).tolist())
_BEYOND = 0.02
"""How far past the highest measured sparsity of a layer one may go: masks come in steps."""
_SLOTS = 4000
"""Times are rounded up to multiples of the whole network's by this."""

FloatArray = npt.NDArray[np.float64]


def sparsities_for_speedup(
    layers: Sequence[ConvLayer],
    found: Sequence[Sensitivity],
    target: float,
    pattern: str = "auto",
) -> dict[str, float]:
    """Choose a sparsity for each measured layer.

    Args:
        layers: all convolutions of the network, masked or not: their times count.
        found: what the layers that may be masked lose.
        target: estimated time of all convolutions without masks over that with them, above 1.
        pattern: of the masks.

    Returns:
        Sparsity by layer name, 0 where skipping is not worth its loss.

    Raises:
        ActivsparseError: a target not above 1, or one that these masks cannot reach; says what
            they can.
    """
    if not target > 1:
        raise ActivsparseError(
            f"target speed-up {target:g} must be above 1; choose for example 1.5"
        )
    curves: dict[str, list[tuple[float, float]]] = {}
    for row in found:
        curves.setdefault(row.layer, [(0.0, 0.0)]).append((row.achieved, row.loss_increase))
    whole = sum(dense_ms(layer.shape) for layer in layers)
    fixed = sum(dense_ms(layer.shape) for layer in layers if layer.name not in curves)
    chosen = [layer for layer in layers if layer.name in curves]
    losses = [_losses(curves[layer.name]) for layer in chosen]
    times = [
        np.array([layer_ms(layer.shape, pattern, s) if s else dense_ms(layer.shape) for s in _GRID])
        for layer in chosen
    ]
    best = fixed + sum(
        float(time[np.isfinite(loss)].min()) for time, loss in zip(times, losses, strict=True)
    )
    if best > whole / target:
        raise ActivsparseError(
            f"target speed-up {target:g}: masks of pattern {pattern} reach an estimated "
            f"{whole / best:.2f} at most; lower the target, measure higher sparsities, or mask "
            "more layers"
        )
    picks = cheapest(losses, times, whole / target - fixed, whole / _SLOTS)
    return {layer.name: _GRID[at] for layer, at in zip(chosen, picks, strict=True)}


def estimated_speedup(layers: Sequence[ConvLayer], masks: Mapping[str, Mask]) -> float:
    """Estimated time of all convolutions without masks over that with `masks`, by layer name."""
    dense = sum(dense_ms(layer.shape) for layer in layers)
    masked = sum(
        mask_ms(layer.shape, masks[layer.name]) if layer.name in masks else dense_ms(layer.shape)
        for layer in layers
    )
    return dense / masked


def _losses(curve: Sequence[tuple[float, float]]) -> FloatArray:
    """Loss increase at each sparsity of the grid; never falling, infinite past the last point."""
    points = sorted(curve)
    at = np.array([s for s, _ in points])
    value = np.maximum.accumulate(np.array([increase for _, increase in points]))
    grid = np.array(_GRID)
    # Of masks that lose equally little the sparser ones are still a greater risk.
    loss = np.interp(grid, at, value) + 1e-6 * grid
    return np.where(grid <= at[-1] + _BEYOND, loss, np.inf)
