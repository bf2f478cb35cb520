"""Gapped tiles: kept rows x kept columns, in runs of 4 with gaps one position wide.

Every kept 4x4 square is a whole output tile of Winograd F(4x4, 3x3), so an engine that computes 3x3
convolutions that way skips the time along with the positions, while the holes stay one position
wide and ragged edges vanish.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from activsparse.masks.arrays import Mask

__all__ = ["RUN", "TOLERANCE", "tile_count", "tiles"]

RUN = 4
"""Length of a run of kept rows or columns: the side of a Winograd output tile."""
TOLERANCE = 0.03
"""How far the achieved sparsity may be from the requested one to save a tile."""


def tiles(
    shape: tuple[int, int], sparsity: float, phase: int = 0, tolerance: float = TOLERANCE
) -> Mask:
    """Make a mask of kept rows x kept columns.

    Of all numbers (kept rows, kept columns) whose shares differ by at most one run, take those
    whose sparsity is within `tolerance` of the requested one, and of these the fewest 4x4 tiles
    (dropping positions without dropping tiles saves no time), then the fewest axes with a ragged
    run, then the nearest sparsity. Where none is within the tolerance take the nearest sparsity. So
    |achieved - sparsity| <= max(tolerance, 1 / (2 min(OH, OW))), except that one position is always
    kept.

    The gaps are spread evenly over the places before, between and after the runs. They are one
    position wide unless there are more of them than places.

    Args:
        shape: (OH, OW).
        sparsity: share of positions not computed, in [0, 1).
        phase: rotates which places get the gaps, where there are more places than gaps.
        tolerance: how far the sparsity may be off to save a tile.

    Returns:
        bool (OH, OW), True = computed.
    """
    rows, columns = _kept_counts(shape, sparsity, tolerance)
    return np.logical_and.outer(_axis(shape[0], rows, phase), _axis(shape[1], columns, phase))


def tile_count(mask: Mask) -> int:
    """Number of 4x4 output tiles covering kept rows x kept columns, each run by itself."""
    return _axis_tiles(np.any(mask, axis=1)) * _axis_tiles(np.any(mask, axis=0))


def _axis_tiles(kept: Mask) -> int:
    edges = np.flatnonzero(np.diff(kept.astype(np.int8), prepend=0, append=0))
    runs = edges[1::2] - edges[::2]
    return int(np.sum(-(-runs // RUN)))


@lru_cache(maxsize=4096)
def _kept_counts(shape: tuple[int, int], sparsity: float, tolerance: float) -> tuple[int, int]:
    height, width = shape
    rows, columns = (axis.ravel() for axis in np.mgrid[1 : height + 1, 1 : width + 1])
    # Holes as dense in one direction as in the other: a lopsided choice may save a tile but makes
    # wide gaps.
    balanced = np.abs(rows * width - columns * height) <= RUN * max(height, width)
    rows, columns = rows[balanced], columns[balanced]

    error = np.round(np.abs(1 - rows * columns / (height * width) - sparsity), 12)
    number = -(-rows // RUN) * -(-columns // RUN)
    ragged = sum(
        ((count % RUN != 0) & (count != size)).astype(np.int64)
        for count, size in ((rows, height), (columns, width))
    )
    outside = np.maximum(error, tolerance)
    # Last keys first: lexsort orders by its last key, ties by the one before.
    best = np.lexsort((columns, rows, error, ragged, number, outside))[0]
    return int(rows[best]), int(columns[best])


def _axis(size: int, kept: int, phase: int) -> Mask:
    """One axis, bool (size,): runs of 4, the last one shorter if need be, gaps spread evenly."""
    runs = [RUN] * (kept // RUN) + [kept % RUN] * (kept % RUN > 0)
    places = len(runs) + 1
    every, extra = divmod(size - kept, places)
    gaps = every + ((np.arange(places) + phase) * extra % places < extra)
    pieces = np.zeros(2 * places - 1, dtype=np.int64)
    pieces[::2], pieces[1::2] = gaps, runs
    return np.repeat(np.arange(pieces.size) % 2 == 1, pieces)
