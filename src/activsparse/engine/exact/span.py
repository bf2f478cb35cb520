"""A value of which the ends of a range are known, element by element."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Array", "Span", "increasing", "linear"]

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Span:
    """All values from `low` to `high`, both inclusive; one array stands for both where they agree.

    Attributes:
        low: any shape; float64, an integer type or bool.
        high: alike.
    """

    low: Array
    high: Array

    @classmethod
    def of(cls, value: Array) -> Span:
        """What is known exactly."""
        return cls(value, value)

    @property
    def exact(self) -> bool:
        """Whether it is a single value."""
        return self.low is self.high

    @property
    def middle(self) -> Array:
        """The middle of the range."""
        return self.low if self.exact else (self.low + self.high) / 2

    @property
    def radius(self) -> Array:
        """Half its width."""
        return (self.high - self.low) / 2

    def each(self, function: Callable[[Array], Array]) -> Span:
        """Apply an increasing function."""
        low = function(self.low)
        return Span(low, low if self.exact else function(self.high))


def increasing(function: Callable[..., list[Array]], spans: list[Span | None]) -> list[Span]:
    """Apply a function that grows with every argument.

    Args:
        function: of arrays, None for an input that is left out.
        spans: its arguments.
    """
    lows = function(*(None if s is None else s.low for s in spans))
    if all(s is None or s.exact for s in spans):
        return [Span.of(y) for y in lows]
    highs = function(*(None if s is None else s.high for s in spans))
    return [Span(low, high) for low, high in zip(lows, highs, strict=True)]


def linear(function: Callable[[Array, Array], Array], x: Span, weight: Span) -> Span:
    """Apply a function that is linear in both arguments, one of which is exact."""
    middle = function(x.middle, weight.middle)
    if x.exact and weight.exact:
        return Span.of(middle)
    if x.exact:
        radius = function(np.abs(x.low), weight.radius)
    elif weight.exact:
        radius = function(x.radius, np.abs(weight.low))
    else:
        radius = (
            function(x.radius, np.abs(weight.middle))
            + function(np.abs(x.middle), weight.radius)
            + function(x.radius, weight.radius)
        )
    return Span(middle - radius, middle + radius)
