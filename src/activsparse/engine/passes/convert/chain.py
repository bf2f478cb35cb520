"""Several engine nodes that together do what one ONNX node does."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from activsparse.engine.graph import Array, Node, Shape
from activsparse.engine.passes.convert.source import Source

__all__ = ["Chain"]


class Chain:
    """Nodes in the order of execution; each method adds one and returns the value it gives."""

    def __init__(self, source: Source) -> None:
        """Start with no node."""
        self.source = source
        self.nodes: list[Node] = []

    def shape(self, value: str) -> Shape:
        """Static shape of a value."""
        return self.source.graph.shape(value)

    def add(
        self,
        op: str,
        *inputs: str,
        shape: Sequence[int] | None = None,
        arrays: Mapping[str, Array] | None = None,
        name: str | None = None,
        **attributes: Any,
    ) -> str:
        """An engine node, of the shape of its first input unless another is given."""
        shape = tuple(self.shape(inputs[0]) if shape is None else shape)
        value = self.source.intermediate(f"{op}{len(self.nodes)}", shape)
        name = name or self.source.node.name
        self.nodes.append(Node(op, name, inputs, (value,), attributes, arrays or {}))
        return value

    def done(self, value: str) -> list[Node]:
        """The nodes, of which the last gives `value`, as those that write the node's output."""
        if not self.nodes or self.nodes[-1].output != value:
            value = self.reshape(value, self.shape(value))
        self.nodes[-1] = replace(self.nodes[-1], outputs=self.source.node.outputs[:1])
        return self.nodes

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """The elements of `x` in the same order in another shape."""
        return self.add("reshape", x, shape=shape)

    def transpose(self, x: str, order: Sequence[int]) -> str:
        """`x` with its axis `order[i]` as axis i."""
        before = self.shape(x)
        shape = [before[axis] for axis in order]
        moved = [axis for axis in order if before[axis] != 1]
        if moved == sorted(moved):  # only axes of size one move: the elements keep their order
            return self.reshape(x, shape)
        return self.add("transpose", x, shape=shape, order=tuple(order))

    def slice(self, x: str, axis: int, start: int, size: int, step: int = 1) -> str:
        """`size` elements along an axis."""
        shape = list(self.shape(x))
        shape[axis] = size
        return self.add("slice", x, shape=shape, axis=axis, start=start, step=step)

    def activate(self, x: str, activation: str, **limits: Any) -> str:
        """An activation of every element."""
        return self.add("activate", x, activation=activation, **limits)

    def combine(self, function: str, a: str, b: str) -> str:
        """Arithmetic between two values of equal shape, or that repeat by ONNX's rules."""
        shape = np.broadcast_shapes(self.shape(a), self.shape(b))
        return self.add("combine", a, b, shape=shape, function=function)

    def select(self, condition: str, a: str, b: str) -> str:
        """`a` where the condition is not 0, else `b`; each may repeat by ONNX's rules."""
        shape = np.broadcast_shapes(*map(self.shape, (condition, a, b)))
        return self.add("combine", condition, a, b, shape=shape, function="select")

    def line(self, x: str, scale: npt.ArrayLike, shift: npt.ArrayLike = 0.0) -> str:
        """`x * scale + shift` with constants that repeat along the axes of `x`.

        A `scale_shift` where they are one value or one per channel, else a `map`.
        """
        shape = self.shape(x)
        tables = [np.asarray(value, np.float32) for value in (scale, shift)]
        tables = [t.reshape((1,) * (len(shape) - t.ndim) + t.shape) for t in tables]
        op = "map"
        if len(shape) in (2, 4) and all(
            t.size == 1 or t.size == t.shape[1] == shape[1] for t in tables
        ):
            op = "scale_shift"
            tables = [np.broadcast_to(t.reshape(-1), shape[1:2]) for t in tables]
        arrays = {
            k: np.ascontiguousarray(t) for k, t in zip(("scale", "shift"), tables, strict=True)
        }
        return self.add(op, x, arrays=arrays)

    def constant(self, value: npt.ArrayLike, shape: Sequence[int]) -> str:
        """A constant, repeated to a shape."""
        array = np.asarray(value, np.float32, order="C")
        one = self.add("constant", shape=array.shape, arrays={"value": array})
        return one if array.shape == tuple(shape) else self.expand(one, shape)

    def expand(self, x: str, shape: Sequence[int]) -> str:
        """`x` repeated by ONNX's rules."""
        return self.add("expand", x, shape=shape)

    def join(self, parts: Sequence[str], axis: int) -> str:
        """The parts one after the other along an axis."""
        if len(parts) == 1:
            return parts[0]
        shape = list(self.shape(parts[0]))
        shape[axis] = sum(self.shape(part)[axis] for part in parts)
        if axis == 1 and len(shape) in (2, 4):
            return self.add("concat", *parts, shape=shape)
        return self.add("join", *parts, shape=shape, axis=axis)

    def on_channels(self, x: str, body: Callable[[str], str]) -> str:
        """What `body` makes of `x` with its last axis as the channels of an image or vector.

        The image is (N, C, H, W) of (N, H, W, C), and (N, C, L, 1) of (N, L, C): transpositions
        before and behind, of which those of neighbours cancel out.
        """
        *outer, c = shape = self.shape(x)
        if len(shape) == 4:
            return self.transpose(body(self.transpose(x, (0, 3, 1, 2))), (0, 2, 3, 1))
        if len(shape) == 3:
            n, length, _ = shape
            image = self.reshape(self.transpose(x, (0, 2, 1)), (n, c, length, 1))
            y = body(image)
            flat = self.reshape(y, (n, self.shape(y)[1], length))
            return self.transpose(flat, (0, 2, 1))
        if len(shape) == 2:
            return body(x)
        y = body(self.reshape(x, (math.prod(outer), c)))
        return self.reshape(y, (*outer, self.shape(y)[1]))

    def power(self, x: str, exponent: float) -> str:
        """`x` to a power that is a multiple of a quarter, at most 8."""
        quarters = abs(exponent) * 4
        if quarters != int(quarters) or not 0 < quarters <= 32:
            self.source.fail(
                f"its exponent is {exponent:g}", "only multiples of 1/4 up to 8 are supported"
            )
        whole, rest = divmod(int(quarters), 4)
        factors = []
        root = x
        for bit in (2, 1):  # halves, quarters
            if rest % (2 * bit):
                root = self.activate(root, "sqrt")
                if rest & bit:
                    factors.append(root)
        square = x
        while whole:
            if whole & 1:
                factors.append(square)
            whole >>= 1
            if whole:
                square = self.combine("multiply", square, square)
        value = factors[0]
        for factor in factors[1:]:
            value = self.combine("multiply", value, factor)
        return value if exponent > 0 else self.activate(value, "reciprocal")
