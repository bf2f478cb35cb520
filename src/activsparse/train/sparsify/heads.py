"""Which convolutions are a network's head: 1x1 ones whose positions are the answer.

The same rule as for ONNX files (`activsparse.export.heads`), applied while the network runs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

__all__ = ["HeadTracker"]

# Names of torch's functions that mix the positions of a map.
_MIXING = {
    "adaptive_avg_pool2d",
    "adaptive_max_pool2d",
    "amax",
    "avg_pool2d",
    "bmm",
    "einsum",
    "linear",
    "matmul",
    "max_pool2d",
    "mean",
    "sum",
}
_CONVOLUTIONS = {"conv1d", "conv2d", "conv3d"}
_LEAVING = {"flatten", "permute", "reshape", "squeeze", "transpose", "unflatten", "view"}


class HeadTracker:
    """Follows every convolution's output until its positions are mixed.

    Attributes:
        interior: names of the convolutions that are no heads.
    """

    def __init__(self) -> None:
        """Start before the network runs."""
        self.interior: set[str] = set()
        # What each tensor carries: names of convolutions, and whether their map was reshaped since.
        self._carried: dict[int, set[tuple[str, bool]]] = {}
        self._alive: list[Tensor] = []  # so that no identity is used twice

    def produced(self, conv: str, output: Tensor) -> None:
        """Note that a convolution gave `output`."""
        self._carry(output, {(conv, False)})

    def follow(self, function: str, args: Any, result: Any) -> None:
        """Note what a function's result carries of its arguments."""
        carried = set().union(*(self._carried.get(id(x), set()) for x in _tensors(args)))
        if not carried:
            return
        if function in _MIXING:
            self.interior |= {name for name, _ in carried}
        if function in _CONVOLUTIONS:
            self.interior |= {name for name, left in carried if not left}
        left = function in _LEAVING
        carried = {(name, left or before) for name, before in carried}
        for tensor in _tensors(result):
            self._carry(tensor, carried)

    def _carry(self, tensor: Tensor, what: set[tuple[str, bool]]) -> None:
        self._carried[id(tensor)] = what
        self._alive.append(tensor)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for item in value:
            yield from _tensors(item)
