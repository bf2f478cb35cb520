"""An ONNX graph that grows, in any operator set; the words random graphs are made of."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from graphs import Builder
from onnx import helper

LARGEST = 30_000
"""Elements of a value beyond which nothing that enlarges is added."""

Shape = tuple[int, ...]


class Growth(Builder):
    """A `Builder` that writes settings where the graph's operator set wants them.

    Attributes:
        pool: values that may be read on, the newest last.
        masked: whether some position need not be computed.
        foreign: whether a node is beyond the engine, so that only a fallback runs the graph.
    """

    def __init__(self, seed: int, opset: int) -> None:
        super().__init__(seed, opset)
        self.pool: list[str] = []
        self.masked = False
        self.foreign = False

    def chance(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, choices: Sequence, count: int | None = None):
        """One of the choices, or a list of `count`; numpy's `choice` would make arrays of them."""
        if count is not None:
            return [self.pick(choices) for _ in range(count)]
        return choices[int(self.rng.integers(len(choices)))]

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    def rank(self, x: str) -> int:
        return len(self.shapes[x])

    def size(self, x: str) -> int:
        return math.prod(self.shapes[x])

    def axis(self, axis: int, rank: int, since: int = 11) -> int:
        """The same axis, sometimes counted from the end."""
        return axis - rank if self.opset >= since and self.chance(0.3) else axis

    def several(self, op: str, inputs: Sequence[str], shapes: Sequence[Shape], **attributes):
        """A node of several outputs; returns their names."""
        outputs = [f"v{len(self.nodes)}_{op.lower()}{i}" for i in range(len(shapes))]
        self.nodes.append(
            helper.make_node(op, inputs, outputs, name=f"n_{outputs[0]}", **attributes)
        )
        self.shapes.update(zip(outputs, shapes, strict=True))
        return outputs

    def integers(self, values: Sequence[int]) -> str:
        """A constant of int64, as an initialiser or a node."""
        array = np.array(values, np.int64)
        if self.chance(0.8):
            return self.constant(array)
        value = helper.make_tensor(f"t{len(self.nodes)}", 7, array.shape, array.tolist())
        return self.node("Constant", shape=array.shape, value=value)

    def setting(self, op: str, inputs: list[str], since: int, shape: Shape, name: str, value, **k):
        """A node whose setting is an attribute before the operator set `since`, then an input."""
        if self.opset < since:
            return self.node(op, *inputs, shape=shape, **{name: value}, **k)
        return self.node(op, *inputs, self.integers(value), shape=shape, **k)

    def squeeze(self, x: str, axes: Sequence[int]) -> str:
        shape = tuple(s for i, s in enumerate(self.shapes[x]) if i not in axes)
        named = [self.axis(a, self.rank(x)) for a in axes]
        return self.setting("Squeeze", [x], 13, shape, "axes", named)

    def unsqueeze(self, x: str, axes: Sequence[int]) -> str:
        shape = list(self.shapes[x])
        for axis in sorted(axes):
            shape.insert(axis, 1)
        named = [self.axis(a, len(shape)) for a in axes]
        return self.setting("Unsqueeze", [x], 13, tuple(shape), "axes", named)

    def mean(self, x: str, axes: Sequence[int], keep: bool = True) -> str:
        shape = tuple(
            1 if i in axes else s for i, s in enumerate(self.shapes[x]) if keep or i not in axes
        )
        named = [self.axis(a, self.rank(x)) for a in axes]
        return self.setting("ReduceMean", [x], 18, shape, "axes", named, keepdims=int(keep))

    def reshape(self, x: str, shape: Shape) -> str:
        """To `shape`, written with 0 and -1 at times, or computed from the shape of the source."""
        old, target = self.shapes[x], list(shape)
        if self.chance(0.25) and shape and old[0] == shape[0]:
            return self._reshape_like(x, shape)
        for i, size in enumerate(shape):
            if i < len(old) and old[i] == size and self.chance(0.25):
                target[i] = 0
        if self.chance(0.4):
            target[self.between(0, len(target) - 1)] = -1
        return self.node("Reshape", x, self.integers(target), shape=shape)

    def _reshape_like(self, x: str, shape: Shape) -> str:
        """As torch writes `x.view(x.size(0), ...)`."""
        sizes = self.node("Shape", x, shape=(self.rank(x),))
        if self.chance(0.5):
            first = self.node("Gather", sizes, self.constant(np.int64(0)), axis=0, shape=(1,))
            first = self.setting("Unsqueeze", [first], 13, (1,), "axes", [0])
        else:
            first = self.slices(sizes, [0], [1], [0], [1], (1,))
        rest = list(shape[1:])
        if rest and self.chance(0.5):
            rest[self.between(0, len(rest) - 1)] = -1
        whole = [first, self.integers(rest)] if rest else [first]
        sizes = self.node("Concat", *whole, axis=0, shape=(len(shape),))
        return self.node("Reshape", x, sizes, shape=shape)

    def slices(self, x: str, starts, ends, axes, steps, shape: Shape) -> str:
        if self.opset < 10:
            return self.node("Slice", x, shape=shape, starts=starts, ends=ends, axes=axes)
        settings = [self.integers(v) for v in (starts, ends, axes)]
        if any(step != 1 for step in steps) or self.chance(0.3):
            settings.append(self.integers(steps))
        return self.node("Slice", x, *settings, shape=shape)

    def clip(self, x: str, lo: float | None, hi: float | None) -> str:
        if self.opset < 11:
            bounds = {k: float(v) for k, v in (("min", lo), ("max", hi)) if v is not None}
            return self.node("Clip", x, **bounds)
        named = [self.constant(np.float32(v)) if v is not None else "" for v in (lo, hi)]
        while named and not named[-1]:
            named.pop()
        return self.node("Clip", x, *named)

    def plane_mask(self, x: str) -> np.ndarray:
        """A random bool mask of the image plane: single positions, blocks, lattice, rows, empty."""
        h, w = self.shapes[x][2:]
        kind = self.pick(["random", "random", "blocks", "tiles", "chequered", "rows", "all", "few"])
        y, z = np.mgrid[:h, :w]
        if kind == "random":
            return self.plane(x, self.pick([0.1, 0.3, 0.5, 0.9]))
        if kind == "blocks":
            coarse = self.rng.random((-(-h // 2), -(-w // 2))) >= 0.4
            return coarse.repeat(2, 0).repeat(2, 1)[:h, :w]
        if kind == "tiles":
            return (y % 5 < 4) & (z % 5 < 4)
        if kind == "chequered":
            return (y + z) % 2 == self.between(0, 1)
        if kind == "rows":
            return np.broadcast_to(self.rng.random((h, 1)) >= 0.4, (h, w))
        keep = np.full((h, w), kind == "all")
        keep.flat[self.between(0, keep.size - 1)] = True
        return keep
