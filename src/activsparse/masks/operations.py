"""What a network consists of, for the analysis of its convolutions: operations between values.

Whoever reads a network, from torch or from a file, gives a list of these in the order of execution.
Values are named by anything hashable. Only those computed from the network's inputs count: weights,
other constants and sizes are no inputs of an operation, and what is made of them alone is none.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from enum import Enum

from activsparse.masks.shape import ConvShape

__all__ = ["Kind", "Operation", "Sizes", "Value"]

Value = Hashable
Sizes = tuple[int | None, ...]
"""Of a value, (N, C, H, W) for maps; None where a size is open."""


class Kind(Enum):
    """What an operation does to the zeros and the positions of a map."""

    CONVOLUTION = "a convolution over height and width of a map"
    NORM = "a batch norm"
    SAME = "gives its input, as dropout does outside of training"
    ZERO = "a function of each element that is zero at zero, or padding with zeros"
    POINT = "a function of each element that is not"
    ADD = "a sum"
    MULTIPLY = "a product of elements"
    COMBINE = "another function of elements of several values"
    POOL = "mixes positions: pooling, means, products of matrices"
    RESIZE = "interpolation"
    SLICE = "a part, or several parts, or repetitions"
    RESHAPE = "the same elements in other dimensions"
    PERMUTE = "the dimensions in another order"
    OTHER = "concatenations and anything else"


@dataclass(frozen=True, eq=False)
class Operation:
    """One operation.

    Attributes:
        kind: what it does; of sums and products of a value and a constant the same as of two.
        inputs: the values it reads.
        outputs: the values it gives.
        name: of a convolution or norm, for whoever reads the network.
        shape: of a convolution; None where its weights are computed or its sizes open.
    """

    kind: Kind
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    name: str | None = None
    shape: ConvShape | None = None

    @property
    def output(self) -> Value:
        """The first value it gives."""
        return self.outputs[0]
