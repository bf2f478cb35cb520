"""From scores to a mask: drop the lowest."""

from __future__ import annotations

import numpy as np

from activsparse.masks.arrays import FloatMap, Mask

__all__ = ["select"]


def select(score: FloatMap, sparsity: float, block: int = 1) -> Mask:
    """Drop the lowest-scored positions, ties by position.

    With `block` 1 exactly round(sparsity * OH * OW) positions are dropped. With a larger block the
    scores are averaged over aligned squares (smaller ones at the lower and right edge) and whole
    squares are dropped, lowest first, until the number of dropped positions is nearest to that; so
    it is off by at most half a square, block^2 / 2 positions.

    Args:
        score: (OH, OW).
        sparsity: share to drop, in [0, 1].
        block: side of the squares, in positions.

    Returns:
        bool (OH, OW), True = computed. May keep nothing when the sparsity is near 1.
    """
    height, width = score.shape
    rows, columns = np.arange(0, height, block), np.arange(0, width, block)
    sizes = np.outer(np.diff(rows, append=height), np.diff(columns, append=width))
    sums = np.add.reduceat(np.add.reduceat(score.astype(np.float64), rows, axis=0), columns, axis=1)

    order = np.argsort((sums / sizes).ravel(), kind="stable")
    dropped_positions = np.concatenate([[0], np.cumsum(sizes.ravel()[order])])
    count = int(np.argmin(np.abs(dropped_positions - round(sparsity * score.size))))

    kept = np.ones(sizes.size, dtype=np.bool_)
    kept[order[:count]] = False
    squares = kept.reshape(sizes.shape)
    return squares.repeat(block, axis=0).repeat(block, axis=1)[:height, :width]
