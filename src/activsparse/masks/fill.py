"""What a skipped position holds when it is filled with its nearest computed neighbour."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from activsparse.errors import ActivsparseError
from activsparse.masks.arrays import IntArray, Mask

__all__ = ["nearest_source"]


def nearest_source(mask: Mask) -> IntArray:
    """For every position the flat index of the nearest kept one, itself where it is kept.

    Distances are Euclidean; of several nearest positions the one with the lowest index is taken.

    Args:
        mask: bool (OH, OW).

    Returns:
        int32 (OH * OW,).

    Raises:
        ActivsparseError: the mask keeps nothing.
    """
    if not mask.any():
        raise ActivsparseError(
            "mask: no position is kept, nothing to fill from; lower the sparsity"
        )
    height, width = mask.shape
    source = np.arange(mask.size).reshape(mask.shape)
    hole_y, hole_x = np.nonzero(~mask)
    offsets = _offsets(height, width)
    while hole_y.size:
        dy, dx = next(offsets)
        y, x = hole_y + dy, hole_x + dx
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        found = inside & mask[np.where(inside, y, 0), np.where(inside, x, 0)]
        source[hole_y[found], hole_x[found]] = y[found] * width + x[found]
        hole_y, hole_x = hole_y[~found], hole_x[~found]
    return source.astype(np.int32).ravel()


def _offsets(height: int, width: int) -> Iterator[npt.NDArray[np.int64]]:
    """All (dy, dx) within a map, nearest first, then in the order of flat indices."""
    inner, outer = 0, 4
    while inner < height + width:
        dy, dx = (axis.ravel() for axis in np.mgrid[-outer : outer + 1, -outer : outer + 1])
        distance = dy**2 + dx**2
        ring = (distance > inner**2) & (distance <= outer**2)
        order = np.lexsort((dx[ring], dy[ring], distance[ring]))
        yield from np.stack([dy[ring], dx[ring]], axis=1)[order]
        inner, outer = outer, 2 * outer
