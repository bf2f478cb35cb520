"""Sums, means, maxima and the like over some axes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from activsparse.engine.graph import Node
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.source import Source

__all__ = ["log_sum", "log_sum_exp", "reduction", "sum_square"]


def reduction(function: str) -> Callable[[Source], list[Node]]:
    """The converter of an operator that is the function `function` of `reduce`.

    Means and maxima over the image plane are poolings.
    """

    def convert(source: Source) -> list[Node]:
        chain, x = Chain(source), source.activation()
        return chain.done(_reduced(source, chain, x, function))

    return convert


def sum_square(source: Source) -> list[Node]:
    """ReduceSumSquare."""
    chain, x = Chain(source), source.activation()
    return chain.done(_reduced(source, chain, chain.combine("multiply", x, x), "sum"))


def log_sum(source: Source) -> list[Node]:
    """ReduceLogSum."""
    chain, x = Chain(source), source.activation()
    return chain.done(chain.activate(_reduced(source, chain, x, "sum"), "log"))


def log_sum_exp(source: Source) -> list[Node]:
    """ReduceLogSumExp: max + log(sum(exp(x - max))), of a finite max, lest infinities cancel."""
    chain, x = Chain(source), source.activation()
    axes = _axes(source)
    if not axes:
        return chain.done(x)
    kept = [1 if axis in axes else size for axis, size in enumerate(source.shape())]
    finite = float(np.finfo(np.float32).max)
    most = chain.add("reduce", x, shape=kept, function="maximum")
    largest = chain.activate(most, "clip", lo=-finite, hi=finite)
    shifted = chain.activate(chain.combine("subtract", x, largest), "exp")
    total = chain.add("reduce", shifted, shape=kept, function="sum")
    y = chain.combine("add", largest, chain.activate(total, "log"))
    return chain.done(chain.reshape(y, source.output_shape))


def _reduced(source: Source, chain: Chain, x: str, function: str) -> str:
    shape, axes = source.shape(), _axes(source)
    if not axes:
        return x
    kept = [1 if axis in axes else size for axis, size in enumerate(shape)]
    if len(shape) == 4 and axes == {2, 3} and function == "mean":
        value = chain.add("global_average_pool", x, shape=kept)
    elif len(shape) == 4 and axes == {2, 3} and function == "maximum":
        value = chain.add("max_pool", x, shape=kept, kernel_h=shape[2], kernel_w=shape[3])
    else:
        value = chain.add("reduce", x, shape=kept, function=function)
    if not source.attribute("keepdims", 1):
        value = chain.reshape(value, source.output_shape)
    return value


def _axes(source: Source) -> set[int]:
    rank = len(source.shape())
    given = source.setting("axes", 1)
    if given is None or not given.size:
        return set() if source.attribute("noop_with_empty_axes", 0) else set(range(rank))
    return {int(axis) % rank for axis in given.reshape(-1)}
