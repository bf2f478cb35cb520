"""One overall sparsity, shared out to the layers by what each loses.

As many multiply-adds are skipped as if every layer had that sparsity, but layers that lose little
skip more. Only measured sparsities are chosen, no interpolated ones: a lattice of one third is
regular, one of 0.3 is less so and may lose more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from activsparse.errors import ActivsparseError
from activsparse.train.plan.knapsack import cheapest
from activsparse.train.plan.sensitivity import Sensitivity
from activsparse.train.sparsify.layers import ConvLayer

__all__ = ["SPREAD_SPARSITIES", "spread_sparsity"]

SPREAD_SPARSITIES = (0.25, 0.3333, 0.5, 0.6667, 0.75)
"""The most regular lattices; their fractions have the smallest denominators."""
_SLOTS = 4000


def spread_sparsity(
    layers: Sequence[ConvLayer], found: Sequence[Sensitivity], sparsity: float
) -> dict[str, float]:
    """Choose a sparsity for each measured layer.

    Args:
        layers: convolutions of the network; those that were not measured stay dense and do not
            count.
        found: what the others lose.
        sparsity: share of their multiply-adds that is to be skipped.

    Returns:
        Sparsity by layer name, of those requested in `found`, 0 where skipping is not worth its
        loss.

    Raises:
        ActivsparseError: the measured sparsities do not reach so far.
    """
    rows: dict[str, list[Sensitivity]] = {}
    for row in found:
        rows.setdefault(row.layer, []).append(row)
    chosen = [layer for layer in layers if layer.name in rows]
    measured = [
        sorted((r.achieved, r.requested, r.loss_increase) for r in rows[layer.name])
        for layer in chosen
    ]
    choices = [[(0.0, 0.0, 0.0), *points] for points in measured]
    # A sparser mask that seems to lose less is noise, and of masks that lose equally little the
    # sparser ones are still a greater risk.
    losses = [
        np.maximum.accumulate(np.array([loss for *_, loss in c]))
        + 1e-6 * np.array([achieved for achieved, *_ in c])
        for c in choices
    ]
    macs = [
        layer.macs * (1 - np.array([achieved for achieved, *_ in c]))
        for layer, c in zip(chosen, choices, strict=True)
    ]
    whole = float(sum(layer.macs for layer in chosen))
    budget = (1 - sparsity) * whole
    least = float(sum(kept.min() for kept in macs))
    if least > budget:
        raise ActivsparseError(
            f"sparsity {sparsity:g}: the measured ones skip {1 - least / whole:.3f} of the "
            "multiply-adds at most; lower it, or measure higher ones"
        )
    picks = cheapest(losses, macs, budget, whole / _SLOTS)
    return {layer.name: c[at][1] for layer, c, at in zip(chosen, choices, picks, strict=True)}
