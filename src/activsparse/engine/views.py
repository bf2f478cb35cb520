"""Views: values of any rank described by where their elements lie in a tensor."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

__all__ = ["View", "dense_strides"]


@dataclass(frozen=True)
class View:
    """Element (i, j, ...) lies `offset + i * strides[0] + j * strides[1] + ...` floats in.

    Attributes:
        tensor: index of the tensor that holds the elements.
        offset: of the first element, in floats.
        shape: in ONNX's order.
        strides: in floats; 0 for axes of size one.
    """

    tensor: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def __post_init__(self) -> None:
        """Give axes of size one the stride 0, so that equal views compare equal."""
        pairs = zip(self.shape, self.strides, strict=True)
        object.__setattr__(self, "strides", tuple(t if s > 1 else 0 for s, t in pairs))

    def permute(self, order: Sequence[int]) -> View:
        """Return the view with axis `order[i]` as axis i."""
        shape = tuple(self.shape[axis] for axis in order)
        return replace(self, shape=shape, strides=tuple(self.strides[axis] for axis in order))

    def narrow(self, axis: int, start: int, size: int, step: int = 1) -> View:
        """Return elements start, start + step, ... of one axis, `size` of them."""
        shape, strides = list(self.shape), list(self.strides)
        offset = self.offset + start * strides[axis]
        shape[axis], strides[axis] = size, strides[axis] * step
        return replace(self, offset=offset, shape=tuple(shape), strides=tuple(strides))

    def broadcast(self, shape: Sequence[int]) -> View:
        """Return the view repeated to a shape of at least its rank, by ONNX's rules."""
        missing = len(shape) - len(self.shape)
        return replace(self, shape=tuple(shape), strides=(0,) * missing + self.strides)

    def reshape(self, shape: Sequence[int]) -> View | None:
        """Return the same elements, in the same order, in another shape; None if they must move."""
        runs = self._runs()
        strides = []
        for size in reversed(shape):
            if size == 1:
                strides.append(0)
                continue
            if not runs:
                return None
            length, stride = runs.pop()
            if length % size:
                return None
            strides.append(stride)
            if length > size:
                runs.append((length // size, stride * size))
        return replace(self, shape=tuple(shape), strides=tuple(reversed(strides)))

    def _runs(self) -> list[tuple[int, int]]:
        """(length, stride) of the runs that neighbouring axes form."""
        runs: list[tuple[int, int]] = []
        for size, stride in zip(self.shape, self.strides, strict=True):
            if size == 1:
                continue
            if runs and runs[-1][1] == size * stride:
                runs[-1] = (runs[-1][0] * size, stride)
            else:
                runs.append((size, stride))
        return runs

    def as_image(self) -> tuple[int, int, int, int, int] | None:
        """Return (N, H, W, C, pixel stride) where the view is such an image in memory."""
        if len(self.shape) not in (2, 4):
            return None
        n, c, h, w = (*self.shape, 1, 1)[:4]
        flat = self.narrow(1, 0, 1).reshape((n * h * w,))
        if (self.strides[1] != 1 and c > 1) or flat is None:
            return None
        stride = flat.strides[0]
        if n * h * w == 1:  # wherever a next pixel would lie
            stride = c
        return (n, h, w, c, stride) if stride >= c else None


def dense_strides(shape: Sequence[int], like: Sequence[int] | None = None) -> tuple[int, ...]:
    """Strides of a tensor without gaps.

    Args:
        shape: its shape.
        like: strides whose order the axes shall have in memory; by default the last axis is the
            innermost.
    """
    order = list(range(len(shape)))
    if like is not None:
        order.sort(key=lambda axis: -like[axis])
    strides = [0] * len(shape)
    step = 1
    for axis in reversed(order):
        strides[axis] = step
        step *= shape[axis]
    return tuple(strides)
