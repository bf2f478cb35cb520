"""Between real numbers and quantised ones."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from activsparse.engine.exact.span import Array, Span
from activsparse.errors import ActivsparseError

__all__ = ["Rounding", "dequantise", "limits"]

_NARROW = {"int4": (-8, 7), "uint4": (0, 15), "int2": (-2, 1), "uint2": (0, 3)}


def limits(dtype: np.dtype) -> tuple[int, int]:
    """The least and the largest value of a quantised type."""
    if dtype.name in _NARROW:
        return _NARROW[dtype.name]
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


@dataclass
class Rounding:
    """How values are rounded, and what was seen in doing so.

    Attributes:
        slack: steps by which a value may lie beyond a rounding boundary and still be rounded as if
            it did not.
        jitter: draws of values moved by up to `slack`; None widens ranges by it instead.
        margins: where kept, for each quantised tensor the steps from each value to the nearest
            boundary at which its result changes; infinite where it saturates.
    """

    slack: float = 0.0
    jitter: np.random.Generator | None = None
    margins: dict[str, Array] | None = field(default=None)

    def quantise(
        self, x: Span, scale: Array, zero: Array, axis: int, name: str, block: int = 0
    ) -> Span:
        """ONNX's QuantizeLinear: saturate(round to even(x / scale) + zero point).

        Args:
            x: real values.
            scale: one for all, or along `axis`.
            zero: zero points, whose type is the result's.
            axis: of scales that are several.
            name: of the result.
            block: how many elements along the axis share a scale, in blocked quantisation.
        """
        wide = _along(scale.astype(np.float64), axis, x.low.shape, block)
        offset = _along(zero.astype(np.int64), axis, x.low.shape, block)
        least, most = limits(zero.dtype)

        def rounded(steps: Array) -> Array:
            whole = np.clip(np.rint(steps) + offset, least, most)
            return np.asarray(whole.astype(zero.dtype))

        if self.margins is not None and x.exact:
            self.margins[name] = _margin(x.low / wide, offset, least, most)
        if self.jitter is not None and self.slack:
            moved = self.jitter.uniform(-self.slack, self.slack, x.low.shape)
            return Span.of(rounded(x.middle / wide + moved))
        low = rounded(x.low / wide - self.slack)
        if x.exact and not self.slack:
            return Span.of(low)
        high = rounded(x.high / wide + self.slack)
        return Span.of(low) if np.array_equal(low, high) else Span(low, high)


def _margin(steps: Array, offset: Array, least: int, most: int) -> Array:
    distance = 0.5 - np.abs(steps - np.rint(steps))
    to_least, to_most = steps + offset - least - 0.5, most - 0.5 - steps - offset
    # Beyond the last boundary on either side only that one is left to cross.
    distance = np.where(to_least < 0, -to_least, distance)
    distance = np.where(to_most < 0, -to_most, distance)
    return np.asarray(distance)


def dequantise(x: Span, scale: Array, zero: Array, axis: int, block: int = 0) -> Span:
    """ONNX's DequantizeLinear: (x - zero point) * scale, exact but for double precision."""
    wide = _along(scale.astype(np.float64), axis, x.low.shape, block)
    offset = _along(zero.astype(np.int64), axis, x.low.shape, block)
    return x.each(lambda q: (q.astype(np.int64) - offset) * wide)


def _along(values: Array, axis: int, shape: tuple[int, ...], block: int) -> Array:
    """Values along an axis in a shape that broadcasts."""
    if values.size == 1 and not block:
        return values.reshape(())
    inside = -len(shape) <= axis < len(shape)
    if block and inside and values.ndim == len(shape):
        repeated = np.repeat(values, block, axis)
        found = repeated.take(range(min(shape[axis], repeated.shape[axis])), axis)
        if found.shape == shape:
            return found
    if block or not inside or values.size != shape[axis]:
        raise ActivsparseError(
            f"scales or zero points of shape {list(values.shape)} do not fit a tensor of shape "
            f"{list(shape)} along axis {axis}; give one of each, or one for each position there"
        )
    sizes = [1] * len(shape)
    sizes[axis] = values.size
    return values.reshape(sizes)
