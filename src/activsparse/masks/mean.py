"""The sparsity of a whole network, in the one sense in which it is shown."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["mean_sparsity"]


def mean_sparsity(sparsities: Iterable[float], macs: Iterable[float]) -> float:
    """Share of the masked layers' output positions that are not computed, weighted.

    A position of a layer counts as much as the multiply-adds it takes, so this is the share of
    these layers' multiply-adds, too; of all convolutions' it is less (`saved` in reports).

    Args:
        sparsities: of the masked layers.
        macs: multiply-adds of each, dense.

    Returns:
        The mean; 0 where there is no layer.
    """
    weights = list(macs)
    skipped = sum(s * w for s, w in zip(sparsities, weights, strict=True))
    return skipped / sum(weights) if sum(weights) else 0.0
