"""Convolutions and poolings of images, (N, C, H, W) in double precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from activsparse.engine.exact.span import Array

__all__ = ["Window", "average_pool", "convolve", "max_pool"]


class Window:
    """Where a kernel lies on an image, by ONNX's attributes.

    Args:
        attributes: of a Conv or a pooling.
        kernel: its (KH, KW).
        size: the image's (H, W).
    """

    def __init__(
        self, attributes: Mapping[str, Any], kernel: tuple[int, ...], size: tuple[int, ...]
    ) -> None:
        self.kernel = kernel
        self.strides = tuple(attributes.get("strides") or (1, 1))
        self.dilations = tuple(attributes.get("dilations") or (1, 1))
        pads = tuple(attributes.get("pads") or (0, 0, 0, 0))
        auto = attributes.get("auto_pad", "NOTSET")
        reach = [(k - 1) * d + 1 for k, d in zip(kernel, self.dilations, strict=True)]
        if auto in ("SAME_UPPER", "SAME_LOWER"):
            self.output = tuple(
                -(-s // stride) for s, stride in zip(size, self.strides, strict=True)
            )
            total = [
                max((o - 1) * stride + r - s, 0)
                for o, stride, r, s in zip(self.output, self.strides, reach, size, strict=True)
            ]
            first = [(t + (auto == "SAME_LOWER")) // 2 for t in total]
            pads = (*first, *(t - f for t, f in zip(total, first, strict=True)))
        else:
            ceil = attributes.get("ceil_mode", 0)
            free = [size[i] + pads[i] + pads[i + 2] - reach[i] for i in range(2)]
            counts = [
                (-(-f // s) if ceil else f // s) + 1
                for f, s in zip(free, self.strides, strict=True)
            ]
            if ceil:  # no window starts in the padding behind the image
                counts = [
                    c - ((c - 1) * self.strides[i] >= size[i] + pads[i])
                    for i, c in enumerate(counts)
                ]
            self.output = tuple(counts)
        self.pads = pads
        # What ceil_mode reaches beyond the padding.
        self.beyond = [
            max(
                0,
                (self.output[i] - 1) * self.strides[i] + reach[i] - size[i] - pads[i] - pads[2 + i],
            )
            for i in range(2)
        ]

    def padded(self, x: Array, value: float, beyond: float | None = None) -> Array:
        """The image with its frame; `beyond` fills what ceil_mode adds, as `value` by default."""
        top, left, bottom, right = self.pads
        framed = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=value)
        more = value if beyond is None else beyond
        below, aside = self.beyond
        return np.pad(framed, ((0, 0), (0, 0), (0, below), (0, aside)), constant_values=more)

    def tap(self, framed: Array, ky: int, kx: int) -> Array:
        """What the kernel's element (ky, kx) meets at every output position."""
        y, x = ky * self.dilations[0], kx * self.dilations[1]
        rows = slice(y, y + (self.output[0] - 1) * self.strides[0] + 1, self.strides[0])
        columns = slice(x, x + (self.output[1] - 1) * self.strides[1] + 1, self.strides[1])
        return np.asarray(framed[:, :, rows, columns])

    def taps(self) -> list[tuple[int, int]]:
        """All elements of the kernel."""
        return [(y, x) for y in range(self.kernel[0]) for x in range(self.kernel[1])]


def convolve(x: Array, weight: Array, attributes: Mapping[str, Any]) -> Array:
    """ONNX's Conv without bias: (N, C, H, W) by (O, C / group, KH, KW)."""
    window = Window(attributes, weight.shape[2:], x.shape[2:])
    group = int(attributes.get("group", 1))
    n, channels = x.shape[:2]
    out, share = weight.shape[:2]
    framed = window.padded(x, 0.0)
    result = np.zeros((n, group, out // group, *window.output))
    # (group, O / group, C / group, KH, KW)
    parts = weight.reshape(group, out // group, share, *window.kernel)
    for ky, kx in window.taps():
        met = window.tap(framed, ky, kx).reshape(n, group, channels // group, -1)
        if share == 1:
            product = parts[None, :, :, 0, ky, kx, None] * met
        else:
            product = np.matmul(parts[None, :, :, :, ky, kx], met)
        result += product.reshape(result.shape)
    return result.reshape(n, out, *window.output)


def max_pool(x: Array, attributes: Mapping[str, Any]) -> Array:
    """ONNX's MaxPool of images; integers stay what they are."""
    window = Window(attributes, tuple(attributes["kernel_shape"]), x.shape[2:])
    lowest = -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min
    framed = window.padded(x, lowest)
    first, *rest = window.taps()
    result: Array = window.tap(framed, *first).copy()
    for tap in rest:
        np.maximum(result, window.tap(framed, *tap), out=result)
    return result


def average_pool(x: Array, attributes: Mapping[str, Any]) -> Array:
    """ONNX's AveragePool of images."""
    window = Window(attributes, tuple(attributes["kernel_shape"]), x.shape[2:])
    framed = window.padded(x, 0.0)
    counted = window.padded(
        np.ones((1, 1, *x.shape[2:])), float(attributes.get("count_include_pad", 0)), 0.0
    )
    total = sum(window.tap(framed, *tap) for tap in window.taps())
    return np.asarray(total / sum(window.tap(counted, *tap) for tap in window.taps()))
