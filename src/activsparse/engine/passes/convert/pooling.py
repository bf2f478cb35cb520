"""Pooling over the image plane."""

from __future__ import annotations

from activsparse.engine.graph import Node
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
    """AveragePool without dilation."""
    kernel = _kernel(source)
    include = int(source.attribute("count_include_pad", 0))
    # Where padding counts, what ceil_mode adds behind it does not: the engine looks at the pads.
    attributes = window(source, kernel, not include)
    if attributes.pop("dilation_h") != 1 or attributes.pop("dilation_w") != 1:
        source.fail("it is dilated", "only dense average pooling is supported")
    attributes.update(kernel_h=kernel[0], kernel_w=kernel[1], count_include_pad=include)
    return [source.engine_node("average_pool", attributes)]


def global_average_pool(source: Source) -> list[Node]:
    """GlobalAveragePool."""
    source.image_shape()
    return [source.engine_node("global_average_pool")]


def global_max_pool(source: Source) -> list[Node]:
    """GlobalMaxPool is a max pooling with one window."""
    _, _, h, w = source.image_shape()
    return [source.engine_node("max_pool", {"kernel_h": h, "kernel_w": w})]
