"""What a .tflite file under construction offers the rules of emit.py."""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from activsparse.engine.graph import Array, Graph, Node, Shape
from activsparse.errors import ActivsparseError
from activsparse.litert.writer import Writer

__all__ = ["Emitter"]

_Fused = schema.ActivationFunctionType


class Emitter:
    """What has been written so far, tensors by their number, and the operator written last."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.writer = Writer()
        self.values: dict[str, int] = {}
        self.shapes: dict[int, Shape] = {}
        self.nonnegative: set[int] = set()
        for name in graph.inputs:
            self.values[name] = self._value(name, _nhwc(graph.shape(name)))

    def finish(self) -> bytes:
        """Return the file."""
        read = [self.values[name] for name in self.graph.inputs]
        return self.writer.finish(read, [self.values[name] for name in self.graph.outputs])

    def _value(self, name: str, shape: Shape) -> int:
        tensor = self.writer.value(name, shape)
        self.shapes[tensor] = shape
        return tensor

    def input(self, node: Node, index: int = 0) -> int:
        """The tensor a node reads."""
        return self.values[node.inputs[index]]

    def output_shape(self, node: Node) -> Shape:
        """Shape of what a node writes, as LiteRT has it."""
        return _nhwc(self.graph.shape(node.output))

    def constant(self, name: str, array: Array) -> int:
        """Add a constant: int32 where it holds integers, else float32."""
        kind = np.int32 if array.dtype.kind == "i" else np.float32
        return self.writer.constant(name, np.ascontiguousarray(array, dtype=kind))

    def add(self, op: str, inputs: list[int], shape: Shape, name: str, options: object) -> int:
        """Append an operator with one output."""
        output = self._value(name, shape)
        self.operator = self.writer.operator(op, inputs, [output], options)
        return output

    def padded(self, node: Node, x: int, kernel: tuple[int, int], value: float = 0.0) -> int:
        """Pad by an operator of its own where neither SAME nor VALID will do.

        Args:
            node: with the attributes of a sliding window.
            x: what it reads.
            kernel: its window, (KH, KW).
            value: what to pad with.

        Returns:
            What it shall read; the scheme is left in `self.padding`.
        """
        a, out = node.attributes, self.output_shape(node)
        strides = a.get("stride_h", 1), a.get("stride_w", 1)
        dilations = a.get("dilation_h", 1), a.get("dilation_w", 1)
        begins = a.get("pad_top", 0), a.get("pad_left", 0)
        same, ends = [], []
        for axis in (0, 1):
            size, step = self.shapes[x][1 + axis], strides[axis]
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            needed = (out[1 + axis] - 1) * step + reach - size
            same.append(out[1 + axis] == -(-size // step) and begins[axis] == max(needed, 0) // 2)
            ends.append(max(needed - begins[axis], 0))
        self.padding = schema.Padding.SAME if all(same) else schema.Padding.VALID
        if all(same) or not any((*begins, *ends)):
            return x
        amounts = np.array([(0, 0), *zip(begins, ends, strict=True), (0, 0)], np.int32)
        n, h, w, c = self.shapes[x]
        shape = (n, h + begins[0] + ends[0], w + begins[1] + ends[1], c)
        inputs = [x, self.constant(f"{node.name}.pads", amounts)]
        if value == 0.0:
            return self.add("PAD", inputs, shape, f"{node.output}.padded", schema.PadOptionsT())
        inputs.append(self.constant(f"{node.name}.pad_value", np.array([value], np.float32)))
        return self.add("PADV2", inputs, shape, f"{node.output}.padded", schema.PadV2OptionsT())

    def finish_node(self, node: Node, value: int) -> None:
        """Apply the node's activation to the last operator's output, and name that."""
        a = node.attributes
        name, lo, hi = a.get("activation", "none"), a.get("lo", -np.inf), a.get("hi", np.inf)
        fused = {
            ("none", 0): _Fused.NONE,
            ("relu", 0): _Fused.RELU,
            ("clip", (0.0, 6.0)): _Fused.RELU6,
            ("clip", (-1.0, 1.0)): _Fused.RELU_N1_TO_1,
        }.get((name, (lo, hi) if name == "clip" else 0))
        options = self.operator.builtinOptions
        fuses = hasattr(options, "fusedActivationFunction") and value in self.operator.outputs
        if fused is not None and fuses:
            options.fusedActivationFunction = fused
        elif name != "none":
            value = self.activation(node, value)
        self.name_value(node, value)

    def name_value(self, node: Node, value: int) -> None:
        """Let later nodes find a node's output, and know whether it is never negative."""
        a = node.attributes
        name = a.get("activation", "none")
        if name == "relu" or (name == "clip" and a.get("lo", -np.inf) >= 0):
            self.nonnegative.add(value)
        self.values[node.output] = value

    def activation(self, node: Node, x: int) -> int:
        """Append the operators of an activation LiteRT does not fuse."""
        name = node.attributes["activation"]
        shape, title = self.shapes[x], f"{node.output}.{name}"

        def unary(op: str, value: int, options: object = None) -> int:
            return self.add(op, [value], shape, title, options)

        def bound(op: str, value: int, limit: float) -> int:
            limits = self.constant(f"{title}.bound", np.array(limit, np.float32))
            return self.add(op, [value, limits], shape, title, schema.MaximumMinimumOptionsT())

        if name == "leaky_relu":
            options = schema.LeakyReluOptionsT()
            options.alpha = float(node.attributes.get("lo", 0.01))
            return unary("LEAKY_RELU", x, options)
        if name == "clip":
            lo, hi = (
                float(node.attributes.get(k, v)) for k, v in (("lo", -np.inf), ("hi", np.inf))
            )
            if (lo, hi) == (0.0, 6.0):
                return unary("RELU6", x)
            x = bound("MAXIMUM", x, lo) if lo > -np.inf else x
            return bound("MINIMUM", x, hi) if hi < np.inf else x
        if name == "silu":
            gate = unary("LOGISTIC", x)
            return self.add("MUL", [x, gate], shape, title, schema.MulOptionsT())
        if name == "hardsigmoid":
            three = self.constant(f"{title}.shift", np.array(3.0))
            sixth = self.constant(f"{title}.scale", np.array(1 / 6))
            options = schema.AddOptionsT()
            options.fusedActivationFunction = _Fused.RELU6
            x = self.add("ADD", [x, three], shape, title, options)
            return self.add("MUL", [x, sixth], shape, title, schema.MulOptionsT())
        simple = {"relu": "RELU", "hardswish": "HARD_SWISH", "sigmoid": "LOGISTIC", "tanh": "TANH"}
        if name not in simple:
            raise ActivsparseError(
                f"{self.graph.name}: {node.title}: its activation '{name}' cannot be written as "
                ".tflite; replace it in the model"
            )
        return unary(simple[name], x)


def _nhwc(shape: Shape) -> Shape:
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape
