"""Pooling over the image plane."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from activsparse.engine.graph import Array, Node
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.convolution import window
from activsparse.engine.passes.convert.source import Source

__all__ = ["average_pool", "global_average_pool", "global_max_pool", "max_pool"]


def _kernel(source: Source) -> tuple[int, int]:
    kernel = tuple(source.attribute("kernel_shape", ()))
    if len(kernel) != 2:
        source.fail(f"its kernel has shape {kernel}", "only 2-d pooling is supported")
    return kernel[0], kernel[1]


def max_pool(source: Source) -> list[Node]:
    """MaxPool; padding never wins, so ceil_mode is more padding at the end."""
    kernel = _kernel(source)
    attributes = window(source, kernel, bool(source.attribute("ceil_mode", 0)))
    attributes.update(kernel_h=kernel[0], kernel_w=kernel[1])
    return [source.engine_node("max_pool", attributes)]


def average_pool(source: Source) -> list[Node]:
    """AveragePool; a dilated one is a depthwise convolution."""
    kernel = _kernel(source)
    include = int(source.attribute("count_include_pad", 0))
    # Where padding counts, what ceil_mode adds behind it does not: the engine looks at the pads.
    attributes = window(source, kernel, not include)
    if attributes["dilation_h"] != 1 or attributes["dilation_w"] != 1:
        return _dilated(source, kernel, include)
    del attributes["dilation_h"], attributes["dilation_w"]
    attributes.update(kernel_h=kernel[0], kernel_w=kernel[1], count_include_pad=include)
    return [source.engine_node("average_pool", attributes)]


def _dilated(source: Source, kernel: tuple[int, int], include: int) -> list[Node]:
    """Sums by a depthwise convolution, divided by what counts at each position."""
    _, c, h, w = source.image_shape()
    out, chain = source.output_shape, Chain(source)
    attributes: dict[str, Any] = window(source, kernel, True)
    pads = list(source.attribute("pads", (0,) * 4))
    counts: list[Array] = []
    for axis, (size, name) in enumerate(((h, "h"), (w, "w"))):
        stride, dilation = attributes[f"stride_{name}"], attributes[f"dilation_{name}"]
        first = attributes[("pad_top", "pad_left")[axis]]
        starts = np.arange(out[2 + axis])[:, None] * stride - first
        at = starts + np.arange(kernel[axis]) * dilation
        # Where padding counts, what ceil_mode adds behind it does not.
        low, high = (-first, size + pads[2 + axis]) if include else (0, size)
        counts.append(((at >= low) & (at < high)).sum(1))
    weight = np.ones((c, 1, *kernel), np.float32)
    total = chain.add(
        "conv", source.activation(), shape=out, arrays={"weight": weight}, group=c, **attributes
    )
    of_all = np.outer(
        *counts
    )  # 0 for a window of padding alone, whose mean ONNX Runtime gives as 0
    return chain.done(chain.line(total, ((of_all > 0) / np.maximum(of_all, 1))[None, None]))


def global_average_pool(source: Source) -> list[Node]:
    """GlobalAveragePool, of any number of axes behind the channels."""
    chain = Chain(source)
    x, _ = _as_image(source, chain)
    return _as_before(source, chain, chain.add("global_average_pool", x, shape=_one_each(chain, x)))


def global_max_pool(source: Source) -> list[Node]:
    """GlobalMaxPool is a max pooling with one window."""
    chain = Chain(source)
    x, (h, w) = _as_image(source, chain)
    y = chain.add("max_pool", x, shape=_one_each(chain, x), kernel_h=h, kernel_w=w)
    return _as_before(source, chain, y)


def _one_each(chain: Chain, x: str) -> tuple[int, ...]:
    """One number for each channel of each image."""
    n, c, _, _ = chain.shape(x)
    return n, c, 1, 1


def _as_before(source: Source, chain: Chain, y: str) -> list[Node]:
    whole = source.output_shape
    return chain.done(y if chain.shape(y) == whole else chain.reshape(y, whole))


def _as_image(source: Source, chain: Chain) -> tuple[str, tuple[int, int]]:
    """The input as (N, C, H, W), and (H, W)."""
    n, c, *sizes = source.shape()
    plane = (sizes[0], sizes[1]) if len(sizes) == 2 else (1, math.prod(sizes))
    x = source.activation()
    return (x if len(sizes) == 2 else chain.reshape(x, (n, c, *plane))), plane
