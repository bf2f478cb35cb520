"""Sums, means, maxima and the like over some axes."""

from __future__ import annotations

from collections.abc import Callable

from activsparse.engine.graph import Node
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.source import Source

__all__ = ["reduction"]


def reduction(function: str) -> Callable[[Source], list[Node]]:
    """The converter of an operator that is the function `function` of `reduce`.

    Means and maxima over the image plane are poolings.
    """

    def convert(source: Source) -> list[Node]:
        shape = source.shape()
        axes = _axes(source)
        chain, x = Chain(source), source.activation()
        if not axes:
            return chain.done(x)
        kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
        if len(shape) == 4 and axes == {2, 3} and function == "mean":
            value = chain.add("global_average_pool", x, shape=kept)
        elif len(shape) == 4 and axes == {2, 3} and function == "maximum":
            value = chain.add("max_pool", x, shape=kept, kernel_h=shape[2], kernel_w=shape[3])
        else:
            value = chain.add("reduce", x, shape=kept, function=function)
        if not source.attribute("keepdims", 1):
            value = chain.reshape(value, source.output_shape)
        return chain.done(value)

    return convert


def _axes(source: Source) -> set[int]:
    rank = len(source.shape())
    given = source.setting("axes", 1)
    if given is None or not given.size:
        return set() if source.attribute("noop_with_empty_axes", 0) else set(range(rank))
    return {int(axis) % rank for axis in given.reshape(-1)}
