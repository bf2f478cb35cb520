"""Normalisations over channels, over positions, over groups of channels: `normalize`."""

from __future__ import annotations

import math

import numpy as np

from activsparse.engine.graph import Array, Node
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.source import Source

__all__ = [
    "group_normalization",
    "instance_normalization",
    "layer_normalization",
    "local_response",
    "lp_normalization",
    "mean_of_channels",
    "normalize",
    "root_mean_square",
]


def normalize(chain: Chain, x: str, groups: int, epsilon: float, scale: Array, shift: Array) -> str:
    """Add the operator `normalize` (docs/operators.md) to a chain; the tables repeat over C."""
    channels = chain.shape(x)[1:2]
    arrays = {
        name: np.ascontiguousarray(np.broadcast_to(table.reshape(-1), channels), np.float32)
        for name, table in (("scale", scale), ("shift", shift))
    }
    return chain.add("normalize", x, arrays=arrays, groups=groups, epsilon=epsilon)


def layer_normalization(source: Source) -> list[Node]:
    """LayerNormalization over the last axis, or over several, flattened."""
    shape = source.shape()
    axis = int(source.attribute("axis", -1)) % len(shape)
    scale = source.weights(1, "scale")
    shift = source.weights(2, "bias") if source.has(2) else np.zeros(1, np.float32)
    tables = [np.broadcast_to(table, shape[axis:]) for table in (scale, shift)]
    epsilon = float(source.attribute("epsilon", 1e-5))
    chain = Chain(source)

    def body(x: str) -> str:
        return normalize(chain, x, 0, epsilon, *tables)

    x = source.activation()
    if axis == len(shape) - 1:
        return chain.done(chain.on_channels(x, body))
    flat = chain.reshape(x, (math.prod(shape[:axis]), math.prod(shape[axis:])))
    return chain.done(chain.reshape(body(flat), shape))


def instance_normalization(source: Source) -> list[Node]:
    """InstanceNormalization: over the positions of every channel."""
    return _of_groups(source, source.shape()[1])


def group_normalization(source: Source) -> list[Node]:
    """GroupNormalization; before opset 21 it has one scale and one shift per group."""
    groups = int(source.attribute("num_groups", 0))
    channels = source.shape()[1]
    if groups < 1 or channels % groups:
        source.wrong(f"it has {groups} groups for {channels} channels", "export the model again")
    return _of_groups(source, groups)


def _of_groups(source: Source, groups: int) -> list[Node]:
    n, channels, *sizes = shape = source.shape()
    tables = [source.weights(i, what) for i, what in ((1, "scale"), (2, "bias"))]
    if all(table.shape == (groups,) for table in tables):
        tables = [table.repeat(channels // groups) for table in tables]
    if any(table.shape != (channels,) for table in tables):
        source.wrong(
            f"its scale and bias have {tables[0].size} and {tables[1].size} elements for "
            f"{channels} channels",
            "export the model again",
        )
    chain = Chain(source)
    x = chain.reshape(source.activation(), (n, channels, math.prod(sizes[:-1]), sizes[-1]))
    y = normalize(chain, x, groups, float(source.attribute("epsilon", 1e-5)), *tables)
    return chain.done(chain.reshape(y, shape))


def root_mean_square(source: Source) -> list[Node]:
    """RMSNormalization: x over the root of the mean of its squares from an axis on, times scale."""
    shape = source.shape()
    axis = int(source.attribute("axis", -1)) % len(shape)
    scale = np.broadcast_to(source.weights(1, "scale"), shape[axis:])
    chain, x = Chain(source), source.activation()
    one = [size if i < axis else 1 for i, size in enumerate(shape)]
    mean = chain.add("reduce", chain.combine("multiply", x, x), shape=one, function="mean")
    root = chain.power(chain.line(mean, 1.0, float(source.attribute("epsilon", 1e-5))), -0.5)
    table = [1] * axis + list(shape[axis:])
    scaled = chain.combine("multiply", x, root)
    constant = chain.constant(np.reshape(scale, table), table)
    return chain.done(chain.combine("multiply", scaled, constant))


def lp_normalization(source: Source) -> list[Node]:
    """LpNormalization: x divided by its length along an axis, by 1 where that is 0."""
    function = {1: "l1", 2: "l2"}.get(int(source.attribute("p", 2)))
    if function is None:
        source.fail(f"its p is {source.attribute('p')}", "use 1 or 2")
    axis = int(source.attribute("axis", -1)) % len(source.shape())
    chain, x = Chain(source), source.activation()
    one = [1 if i == axis else size for i, size in enumerate(source.shape())]
    length = chain.add("reduce", x, shape=one, function=function)
    ones = chain.constant(np.ones([1] * len(one)), [1] * len(one))
    zero = chain.constant(np.zeros([1] * len(one)), [1] * len(one))
    divisor = chain.select(chain.combine("equal", length, zero), ones, length)
    return chain.done(chain.combine("divide", x, divisor))


def local_response(source: Source) -> list[Node]:
    """LRN: x / (bias + alpha / size * sum of x^2 over `size` channels)^beta."""
    source.image_shape()
    size = int(source.attribute("size", 0))
    if size < 1:
        source.wrong(f"its size is {size}", "export the model again")
    chain, x = Chain(source), source.activation()
    mean = mean_of_channels(chain, chain.combine("multiply", x, x), size, (size - 1) // 2)
    line = chain.line(mean, source.attribute("alpha", 1e-4), source.attribute("bias", 1.0))
    factor = chain.power(line, -float(source.attribute("beta", 0.75)))
    return chain.done(chain.combine("multiply", x, factor))


def mean_of_channels(chain: Chain, x: str, size: int, before: int) -> str:
    """Mean of `size` channels of (N, C, H, W), zeros beyond the ends, from `before` ahead of each.

    An average pooling along the channels, as rows of an image whose channels are the positions.
    """
    n, c, h, w = chain.shape(x)
    rows = chain.transpose(chain.reshape(x, (n, c, h * w)), (0, 2, 1))
    columns = chain.reshape(rows, (n, h * w, c, 1))
    mean = chain.add(
        "average_pool",
        columns,
        kernel_h=size,
        kernel_w=1,
        pad_top=before,
        pad_bottom=size - 1 - before,
        count_include_pad=1,
    )
    back = chain.transpose(chain.reshape(mean, (n, h * w, c)), (0, 2, 1))
    return chain.reshape(back, (n, c, h, w))
