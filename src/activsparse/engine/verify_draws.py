"""Whether what differs is roundings that a network amplifies: results with some of them drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["DRAWS", "Moves", "finite_error", "moves"]

FloatArray = npt.NDArray[np.floating[Any]]

DRAWS = 8
_TIMES = 4
"""How much further a right engine may be off than the furthest of the draws."""


@dataclass(frozen=True)
class Moves:
    """How far roundings move each output of a network.

    Attributes:
        largest: of all draws, per output, the largest difference of what is finite.
        reshaped: in some draw an output had another shape, as where a detector finds another number
            of boxes; that draw says nothing of how far.
    """

    largest: tuple[float, ...]
    reshaped: bool

    @property
    def bounds(self) -> tuple[float, ...]:
        """How far an engine may be off, per output."""
        return tuple(_TIMES * largest for largest in self.largest)


def moves(draws: Iterable[Sequence[FloatArray]], steady: Sequence[FloatArray]) -> Moves:
    """Compare draws with the result without them.

    Args:
        draws: the outputs of each, any shapes.
        steady: the outputs without.
    """
    largest, reshaped = [0.0] * len(steady), False
    for drawn in draws:
        if any(a.shape != b.shape for a, b in zip(drawn, steady, strict=True)):
            reshaped = True
            continue
        errors = map(finite_error, drawn, steady)
        largest = [max(pair) for pair in zip(largest, errors, strict=True)]
    return Moves(tuple(largest), reshaped)


def finite_error(actual: FloatArray, expected: FloatArray) -> float:
    """Largest difference of what is finite in both; NaN where their shapes differ."""
    if actual.shape != expected.shape:
        return math.nan
    a, b = actual.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(a) & np.isfinite(b)
    error = np.abs(np.where(finite, a, 0) - np.where(finite, b, 0))
    return float(np.max(error, initial=0.0))
