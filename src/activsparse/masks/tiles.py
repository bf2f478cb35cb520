"""Gapped tiles: kept rows x kept columns, in runs of a Winograd tile's side, with gaps between.

An engine that computes 3x3 convolutions by Winograd F(m x m, 3x3) pays by the tile. Along an axis a
run of m kept positions costs m + 2 products per pair of channels, a shorter one that fits the short
axis of the tile (4 of 6, 2 of 4, 1 of 2 positions) as many as that has inputs: with m = 4, 6
products for 3 or 4 positions and 4 for 1 or 2; with m = 6, 8 for 5 or 6 and 6 for fewer; with m =
2, 4 for 2 and 3 for 1; with stride 2 it is 2 m + 1 products. A mask costs (its rows' products) x
(its columns' products): 12 rows x 14 columns of 14x14 in runs of 4 cost 18 x 22 = 396 where dense
costs 22 x 22 = 484. Holes stay one position wide, and the time they save is real.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from activsparse.masks.arrays import Mask

__all__ = [
    "RUNS",
    "TOLERANCE",
    "Kept",
    "axis_products",
    "kept_choices",
    "kept_mask",
    "products",
    "run_for",
    "tiles",
]

RUNS = (6, 4, 2)
"""Lengths of a run of kept rows or columns: the sides of Winograd output tiles."""
_SHORT = {6: 4, 4: 2, 2: 1}
"""Outputs along the short axis of a tile."""
TOLERANCE = 0.03
"""How far the achieved sparsity may be from the requested one to save products."""
_SMALL = 8


class Kept(NamedTuple):
    """How many rows and columns are kept, in runs of what length."""

    rows: int
    columns: int
    run: int


def tiles(
    shape: tuple[int, int],
    sparsity: float,
    phase: int = 0,
    tolerance: float = TOLERANCE,
    run: int | None = None,
) -> Mask:
    """Make a mask of kept rows x kept columns.

    Of all numbers (kept rows, kept columns) whose shares differ by at most one run, take those
    whose sparsity is within `tolerance` of the requested one, of these the fewest products
    (dropping positions without saving products saves no time), and of these the nearest sparsity.
    Where none is within the tolerance take the nearest sparsity. So |achieved - sparsity| <=
    max(tolerance, 1 / (2 min(OH, OW))), except that one position is always kept.

    Args:
        shape: (OH, OW).
        sparsity: share of positions not computed, in [0, 1).
        phase: rotates which places get the gaps, where there are more places than gaps.
        tolerance: how far the sparsity may be off to save products.
        run: length of a run, one of `RUNS`; by default `run_for(shape)`.

    Returns:
        bool (OH, OW), True = computed.
    """
    run = run_for(shape) if run is None else run
    rows, columns, achieved, cost = kept_choices(shape, run)
    error = np.round(np.abs(achieved - sparsity), 12)
    # The last key counts first.
    best = np.lexsort((columns, rows, error, cost, np.maximum(error, tolerance)))[0]
    return kept_mask(shape, Kept(int(rows[best]), int(columns[best]), run), phase)


def run_for(shape: tuple[int, int]) -> int:
    """The tile side that wastes least on a map: 4, but 2 on maps below 8 positions."""
    return 4 if min(shape) >= _SMALL else 2


def products(kept: npt.ArrayLike, run: int, stride: int = 1) -> npt.NDArray[np.int64]:
    """Products along an axis of so many kept positions in runs of `run` and one shorter rest.

    A run of m costs as many products as it sees inputs, (m - 1) * stride + 3.
    """
    short = _SHORT[run]
    full, rest = np.divmod(np.asarray(kept, dtype=np.int64), run)
    whole, less = ((m - 1) * stride + 3 for m in (run, short))
    last = np.where(rest > short, whole, np.where(rest > 0, less, 0))
    return np.asarray(full * whole + last)


@lru_cache(maxsize=1 << 16)
def axis_products(size: int, kept: int, run: int, tile: int, stride: int = 1) -> int:
    """Products along an axis in tiles of side `tile`, where gaps were laid for runs of `run`.

    Smaller tiles cut up each run; larger ones find no room between the gaps and compute all of it.
    """
    dense = int(products(size, tile, stride))
    if tile > run:
        return dense
    each = kept // run * int(products(run, tile, stride)) + int(products(kept % run, tile, stride))
    return min(dense, each)


@lru_cache(maxsize=1024)
def kept_choices(
    shape: tuple[int, int], run: int, stride: int = 1
) -> tuple[
    npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.float64], npt.NDArray[np.int64]
]:
    """All sensible (rows, columns), their sparsities and products; not to be written to."""
    height, width = shape
    rows, columns = (axis.ravel() for axis in np.mgrid[1 : height + 1, 1 : width + 1])
    # Holes as dense in one direction as in the other: a lopsided choice may save products but makes
    # wide gaps.
    balanced = np.abs(rows * width - columns * height) <= run * max(height, width)
    rows, columns = rows[balanced], columns[balanced]
    sparsity = 1 - rows * columns / (height * width)
    return rows, columns, sparsity, products(rows, run, stride) * products(columns, run, stride)


def kept_mask(shape: tuple[int, int], kept: Kept, phase: int = 0) -> Mask:
    """Lay out kept rows and columns.

    The gaps are spread evenly over the places before, between and after the runs. They are one
    position wide unless there are more of them than places.
    """
    rows = _axis(shape[0], kept.rows, kept.run, phase)
    return np.logical_and.outer(rows, _axis(shape[1], kept.columns, kept.run, phase))


def _axis(size: int, kept: int, run: int, phase: int) -> Mask:
    """One axis, bool (size,): full runs, a last one shorter if need be, gaps spread evenly."""
    runs = [run] * (kept // run) + [kept % run] * (kept % run > 0)
    places = len(runs) + 1
    every, extra = divmod(size - kept, places)
    gaps = every + ((np.arange(places) + phase) * extra % places < extra)
    pieces = np.zeros(2 * places - 1, dtype=np.int64)
    pieces[::2], pieces[1::2] = gaps, runs
    return np.repeat(np.arange(pieces.size) % 2 == 1, pieces)
