"""Regular holes one position wide.

With the fraction p/q nearest to the sparsity, position (x, y) is a hole where p (x + a y + phase)
mod q < p. Along a row that is the evenest possible sequence (any window of n positions holds floor
or ceil(n p / q) holes), and `a` moves it from row to row. Of the moves that visit every residue in
each column (a and q have no common divisor) and leave a hole's upper and lower neighbours computed,
`a` is the one that keeps holes farthest apart. One third gives (x + 2y + phase) mod 3, one half the
chequerboard, one fifth the knight's move (x + 2y + phase) mod 5.
"""

from __future__ import annotations

from fractions import Fraction
from functools import cache
from math import gcd

import numpy as np

from activsparse.masks.arrays import Mask

__all__ = ["HIGHEST", "MAX_PERIOD", "lattice", "lattice_fraction"]

MAX_PERIOD = 16
"""Largest q: few distinct neighbourhoods, so that an engine can treat each as a case of its own."""

HIGHEST = 1 - 1 / (2 * MAX_PERIOD)
"""Highest sparsity to request: 15/16, the sparsest lattice, is nearest up to here."""


def lattice(shape: tuple[int, int], sparsity: float, phase: int = 0) -> Mask:
    """Make a mask of regular holes; none is next to another, above or beside, up to sparsity 1/2.

    |achieved - sparsity| <= 1/32 + (OH mod q) / (OH OW): the first term is the largest distance to
    a fraction with q <= 16 (1/16 for sparsities above 31/32, as 15/16 is the largest), the second
    comes from the rows beyond the last whole period (each is off by less than one position).

    Args:
        shape: (OH, OW).
        sparsity: share of holes, in [0, 1).
        phase: shifts the pattern along the rows; q phases are distinct.

    Returns:
        bool (OH, OW), True = computed. Tiny maps at high sparsity may keep nothing.
    """
    fraction = lattice_fraction(sparsity)
    p, q = fraction.numerator, fraction.denominator
    y, x = np.ogrid[: shape[0], : shape[1]]
    return np.asarray(p * (x + _row_shift(p, q) * y + phase) % q >= p)


def lattice_fraction(sparsity: float) -> Fraction:
    """The fraction p/q with q <= 16 nearest to `sparsity`, below 1."""
    nearest = Fraction(sparsity).limit_denominator(MAX_PERIOD)
    return min(nearest, Fraction(MAX_PERIOD - 1, MAX_PERIOD))


@cache
def _row_shift(p: int, q: int) -> int:
    """The best `a` of the module's formula; 2 where it is among the best."""
    # More holes than kept positions: spread the kept ones instead, whose pattern is the same with q
    # - p.
    rare = min(p, q - p)
    candidates = [a for a in range(1, q) if gcd(a, q) == 1 and rare <= p * a % q <= q - rare]
    even = [a for a in candidates if _column_unevenness(p, q, a) < 2]
    return max(even, key=lambda a: (_spacing(p, q, a), -abs(a - 2)), default=0)


def _column_unevenness(p: int, q: int, a: int) -> float:
    """By how many holes a window of a column differs from the mean at most."""
    holes = np.tile(p * a * np.arange(q) % q < p, 2)
    excess = np.concatenate([[0.0], np.cumsum(holes - p / q)])
    return float(excess.max() - excess.min())


def _spacing(p: int, q: int, a: int) -> tuple[int, int]:
    """(squared distance of the closest two rare positions, minus how many pairs are as close)."""
    reach = np.arange(-q, q + 1)
    dx, dy = np.meshgrid(reach, reach)
    # Two residues (scaled by p) both lie in an interval of length `rare` for max(0, rare -
    # |difference|) positions.
    step = p * (dx + a * dy) % q
    rare = min(p, q - p)
    pairs = np.maximum(0, rare - np.minimum(step, q - step))
    distance = dx**2 + dy**2
    pairs[distance == 0] = 0
    closest = int(distance[pairs > 0].min())
    return closest, -int(pairs[distance == closest].sum())
