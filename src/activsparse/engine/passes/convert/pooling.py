"""Pooling over the image plane."""

from __future__ import annotations

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
    return chain.done(chain.line(total, (1.0 / np.outer(*counts))[None, None]))


def global_average_pool(source: Source) -> list[Node]:
    """GlobalAveragePool."""
    source.image_shape()
    return [source.engine_node("global_average_pool")]


def global_max_pool(source: Source) -> list[Node]:
    """GlobalMaxPool is a max pooling with one window."""
    _, _, h, w = source.image_shape()
    return [source.engine_node("max_pool", {"kernel_h": h, "kernel_w": w})]
