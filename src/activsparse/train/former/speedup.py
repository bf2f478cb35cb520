"""Sparsities for a target by measured losses; `activsparse.train.plan` plans whole masks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from activsparse.errors import ActivsparseError
from activsparse.masks.frontier import LayerChoices, frontier
from activsparse.masks.latency import dense_ms, layer_ms
from activsparse.train.plan.sensitivity import Sensitivity
from activsparse.train.sparsify.layers import ConvLayer

__all__ = ["sparsities_for_speedup"]


def sparsities_for_speedup(
    layers: Sequence[ConvLayer],
    found: Sequence[Sensitivity],
    target: float,
    pattern: str = "auto",
) -> dict[str, float]:
    """Choose a measured sparsity for each measured layer.

    Args:
        layers: all convolutions of the network: their times count, masked or not.
        found: what the layers that may be masked lose.
        target: estimated time of all convolutions without masks over that with them, above 1.
        pattern: of the masks.

    Returns:
        Sparsity by layer name, 0 where skipping is not worth its loss.

    Raises:
        ActivsparseError: a target not above 1, or one that these masks cannot reach.
    """
    if not target > 1:
        raise ActivsparseError(
            f"target speed-up {target:g} must be above 1; choose for example 1.5"
        )
    rows: dict[str, list[Sensitivity]] = {}
    for row in found:
        rows.setdefault(row.layer, []).append(row)
    measured = [layer for layer in layers if layer.name in rows]
    whole = sum(dense_ms(layer.shape) for layer in layers)
    fixed = sum(dense_ms(layer.shape) for layer in layers if layer.name not in rows)
    choices = []
    for layer in measured:
        times = [layer_ms(layer.shape, pattern, row.achieved) for row in rows[layer.name]]
        losses = [max(row.loss_increase, 0.0) for row in rows[layer.name]]
        choices.append(
            LayerChoices(np.array([0.0, *losses]), np.array([[dense_ms(layer.shape), *times]]))
        )
    best = frontier(choices)
    picks = best.within(whole / target - fixed)
    if picks is None:
        reached = whole / (fixed + float(best.costs[0]))
        raise ActivsparseError(
            f"target speed-up {target:g}: masks of pattern {pattern} reach an estimated "
            f"{reached:.2f} at most; lower the target, or measure higher sparsities"
        )
    return {
        layer.name: [0.0, *(row.achieved for row in rows[layer.name])][pick]
        for layer, pick in zip(measured, picks, strict=True)
    }
