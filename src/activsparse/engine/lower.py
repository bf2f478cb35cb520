"""From graph values to tensors in memory: layouts, views, and the order of native operators.

Images become (N, H, W, C) with the pixel stride rounded up to a cache line. Three things cost
nothing because they are only another description of the same memory: reshapes between (N, C, 1, 1)
and (N, C), flattening before a fully connected layer, and most concatenations, whose parts are
written side by side by the operators that compute them. Values of other ranks, and those that do
not lie as images, are views (lower_views.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from activsparse import _native
from activsparse.engine.graph import Graph, Node, Shape
from activsparse.engine.lower_views import STRIDED, VIEWS, ViewLowering
from activsparse.engine.memory import ALIGNMENT
from activsparse.engine.passes.convert import EXACT
from activsparse.engine.program import Program, Step, Tensor
from activsparse.engine.views import View, dense_strides
from activsparse.errors import ActivsparseError, Option

__all__ = ["Program", "Step", "Tensor", "lower"]

# Whether a node can run on these tensors in an algorithm worth having.
Supports = Callable[[Node, list[_native.TensorDesc], list[_native.TensorDesc]], bool]


def lower(graph: Graph, supports: Supports) -> Program:
    """Place every value of an optimised graph and list the native operators.

    Args:
        graph: engine nodes only.
        supports: asked whether a first convolution can read the graph's input in place.
    """
    return _Lowering(graph, supports).run()


# `overwrite` (join_branches): both parts start at the first channel.
_CONCATENATIONS = ("concat", "overwrite")

# Channels that products of bytes take at a time.
_QUAD = 4

# Image operators that views can stand in for, where a value does not lie as an image.
_EITHER = ("activate", "add", "mul", "scale_shift", "softmax")


class _Lowering(ViewLowering):
    def __init__(self, graph: Graph, supports: Supports) -> None:
        super().__init__(graph)
        self.supports = supports
        self.flattened = {node.inputs[0] for node in graph.nodes if node.op == "flatten"}
        self.parts = self._concat_parts()
        self.results = {self._before_views(name) for name in graph.outputs}

    def run(self) -> Program:
        graph = self.graph
        for name in graph.inputs:
            self._input(name)
        for node in graph.nodes:
            if node.op in VIEWS:
                self._view(node)
            elif node.op == "flatten":
                self._flatten(node)
            elif node.op in _CONCATENATIONS and (
                node.output in graph.scales or self._has_parts(node)
            ):
                self._concat_in_place(node)
            elif node.op == "gather_u8" and "first" in node.attributes:
                self._pick_channels(node)
            elif node.op in STRIDED or (node.op in _EITHER and not self._on_images(node)):
                self.strided(node)
            else:
                inputs = tuple(self.image(name) for name in node.inputs)
                self._step(node, inputs, self._output_tensor(node.output))
        for name in graph.outputs:
            self.program.outputs.append(self._result(name))
        return self.program

    # Views ----------------------------------------------------------------------------------------
    # -------------------

    def _before_views(self, value: str) -> str:
        """The value whose elements, in ONNX's order, are those of `value`."""
        node = self.graph.producer(value)
        return self._before_views(node.inputs[0]) if node and node.op == "reshape" else value

    def _placed_before(self, value: str) -> list[str]:
        """The same, where they lie as images or vectors, nearest first.

        Of values in between those that image operators read as well.
        """
        node = self.graph.producer(value)
        before = self._placed_before(node.inputs[0]) if node and node.op == "reshape" else []
        return [value, *before] if value in self.placed else before

    def _view(self, node: Node) -> None:
        name = node.inputs[0]
        if node.op == "reshape" and name in self.placed:
            ends = self.graph.uses(node.output) == self.graph.outputs.count(node.output)
            if ends and node.output not in self.outer:
                return  # a result: its values leave in ONNX's order anyway
            shapes = self.graph.shape(name), self.graph.shape(node.output)
            if all(len(s) in (2, 4) for s in shapes):
                before, after = (self._pixels(v) for v in (name, node.output))
                if before == after:
                    self.placed[node.output] = self.placed[name]
                    return
        self.alias(node)

    def _on_images(self, node: Node) -> bool:
        return all(self.lies_as_image(name) for name in node.inputs)

    def _flatten(self, node: Node) -> None:
        """Rows of all channels of all pixels: the same memory, where it has no gaps."""
        place = self.image(node.inputs[0])
        source = self.program.tensors[place]
        n, c = self.graph.shape(node.output)
        d = source.desc
        if d.stride != d.c or d.nchw:  # a view of channels, or the caller's array
            name = f"{node.name} without gaps"
            dense = _native.TensorDesc(d.n, d.h, d.w, d.c, d.c, dtype=d.dtype)
            self.program.block_bytes.append(d.itemsize * d.n * d.h * d.w * d.c)
            source = Tensor(dense, len(self.program.block_bytes) - 1)
            copy = Node("to_nhwc" if d.nchw else "copy", name, node.inputs, node.outputs)
            self._step(copy, (place,), self.add_tensor(source))
        desc = _native.TensorDesc(n, 1, 1, c, c, dtype=d.dtype)
        self.placed[node.output] = self.add_tensor(Tensor(desc, source.block, source.offset))

    def _concat_parts(self) -> dict[str, tuple[str, int]]:
        """Values computed inside a concatenation: value -> (the whole, its first channel).

        Only where every part starts on a cache line, so that whole-vector stores touch no
        neighbour.
        """
        parts: dict[str, tuple[str, int]] = {}
        for node in reversed(self.graph.nodes):  # outer concatenations first
            if node.op not in _CONCATENATIONS or node.output in self.flattened:
                continue
            starts = self._starts(node)
            if any(first % ALIGNMENT for first in starts):
                continue
            for name, first in zip(node.inputs, starts, strict=True):
                if self._may_move(name, node) and name not in parts:
                    parts[name] = (node.output, first)
        return parts

    def _starts(self, concat: Node) -> list[int]:
        """The first channel of every part."""
        if concat.op == "overwrite":
            return [0, 0]
        channels = [self.graph.shape(name)[1] for name in concat.inputs]
        return [sum(channels[:i]) for i in range(len(channels))]

    def _may_move(self, value: str, concat: Node) -> bool:
        producer = self.graph.producer(value)
        return (
            producer is not None
            and producer.op not in (*VIEWS, "constant", "flatten")
            and value not in self.flattened
            and concat.inputs.count(value) == 1
        )

    def _has_parts(self, concat: Node) -> bool:
        return any(self.parts.get(name, ("",))[0] == concat.output for name in concat.inputs)

    def _concat_in_place(self, node: Node) -> None:
        whole = self.place(node.output)
        for name, first in zip(node.inputs, self._starts(node), strict=True):
            c = self.graph.shape(name)[1]
            if self.parts.get(name) != (node.output, first):
                part = self.add_tensor(self._channels(whole, first, c))
                kind = "gather_u8" if name in self.graph.scales else "copy"
                copy = Node(kind, f"{node.name}[{first}:{first + c}]", (name,), (node.output,))
                self._step(copy, (self.image(name),), part)

    def _pick_channels(self, node: Node) -> None:
        """A gather of some channels: a view, where whole cache lines hold them."""
        first = int(node.attributes["first"])
        c = self.graph.shape(node.output)[1]
        image = self.image(node.inputs[0])
        part = self._channels(image, first, c)
        owns = c % ALIGNMENT == 0 or first + c == self.program.tensors[image].desc.c
        moves = bool(node.arrays) or node.output in self.parts or node.output in self.flattened
        if first % ALIGNMENT == 0 and owns and not moves:
            self.placed[node.output] = self.add_tensor(part)
            return
        kept = {key: value for key, value in node.attributes.items() if key != "first"}
        copy = replace(node, attributes=kept)
        self._step(copy, (self.add_tensor(part),), self._output_tensor(node.output))

    def _channels(self, whole: int, first: int, c: int) -> Tensor:
        """A view of some channels. Vector stores may fill its last cache line if it owns that."""
        tensor = self.program.tensors[whole]
        d = tensor.desc
        aligned = c % ALIGNMENT == 0 or first + c == d.c
        padded = aligned and d.padded
        desc = _native.TensorDesc(d.n, d.h, d.w, c, d.stride, padded=padded, dtype=d.dtype)
        return Tensor(desc, tensor.block, tensor.offset + first)

    # Tensors --------------------------------------------------------------------------------------
    # -------------------

    def _pixels(self, value: str) -> tuple[int, int, int, int]:
        """(N, H, W, C) of a value."""
        shape: Shape = self.graph.shape(value)
        if len(shape) == 2:
            return shape[0], 1, 1, shape[1]
        if len(shape) != 4:
            raise ActivsparseError(
                f"{self.graph.name}: value '{value}' has shape {shape}; "
                "only (N, C, H, W) and (N, F) are supported"
            )
        return shape[0], shape[2], shape[3], shape[1]

    def place(self, value: str) -> int:
        """The tensor of a value, made on first use."""
        if value in self.placed:
            return self.placed[value]
        if value in self.parts:
            whole, first = self.parts[value]
            c = self._pixels(value)[3]
            tensor = self._channels(self.place(whole), first, c)
        else:
            n, h, w, c = self._pixels(value)
            stride = self._stride(value, c)
            padded, dtype = stride % ALIGNMENT == 0, self._dtype(value)
            desc = _native.TensorDesc(n, h, w, c, stride, padded=padded, dtype=dtype)
            self.program.block_bytes.append(desc.itemsize * n * h * w * stride)
            tensor = Tensor(desc, len(self.program.block_bytes) - 1)
        self.placed[value] = self.add_tensor(tensor)
        return self.placed[value]

    def _dtype(self, value: str) -> str:
        if value in self.graph.halves:
            return "float16"
        return "uint8" if value in self.graph.scales else "float32"

    def _stride(self, value: str, c: int) -> int:
        """Elements from pixel to pixel: whole groups, but of images only convolutions read."""
        if value in self.flattened:
            return c
        readers = self.graph.readers(value)
        if value in self.graph.scales and c <= _QUAD and all(r.op == "conv_u8" for r in readers):
            return _QUAD
        return -(-c // ALIGNMENT) * ALIGNMENT

    def _output_tensor(self, value: str) -> int:
        """The tensor a step writes: results of 1x1 pixels or one channel go straight to the caller.

        The latter only where nothing else reads them.
        """
        n, h, w, c = self._pixels(value)
        ends = self.graph.uses(value) == self.graph.outputs.count(value)
        if value not in self.results or not ((h, w) == (1, 1) or (c == 1 and ends)):
            return self.place(value)
        if value in self.parts or value in self.flattened:
            return self.place(value)
        self.placed[value] = self.add_tensor(Tensor(_native.TensorDesc(n, h, w, c, c), None))
        return self.placed[value]

    def _step(self, node: Node, inputs: tuple[int, ...], output: int) -> None:
        self.program.steps.append(Step(node, inputs, (output,)))

    # The graph's ends -----------------------------------------------------------------------------
    # -------------------

    def _input(self, name: str) -> None:
        shape = self.graph.shape(name)
        image = len(shape) in (2, 4)
        n, h, w, c = self._pixels(name) if image else (1, 1, 1, int(np.prod(shape)))
        desc = _native.TensorDesc(n, h, w, c, c, nchw=image)
        outer = self.add_tensor(Tensor(desc, None))
        self.program.inputs.append(outer)
        reader = self.graph.only_consumer(name)
        first = ("conv", "conv_max_pool", "inverted_residual")
        if (reader is not None and reader.op == "quantise" and image) or (
            reader is not None
            and reader.op in first
            and reader.inputs[0] == name  # not as a residual
            and self._reads_nchw(reader, outer)
        ):
            self.placed[name] = outer
        elif self.read_as_image(name) or (image and name in self.graph.outputs):
            copy = Node("to_nhwc", name, (name,), (name,))
            self._step(copy, (outer,), self.place(name))
        else:
            self.views[name] = View(outer, 0, shape, dense_strides(shape))

    def _reads_nchw(self, conv: Node, outer: int) -> bool:
        descs = [self._plain(name) for name in conv.inputs]
        descs[0] = self.program.tensors[outer].desc
        return self.supports(conv, descs, [self._plain(conv.output)])

    def _plain(self, value: str) -> _native.TensorDesc:
        n, h, w, c = self._pixels(value)
        return _native.TensorDesc(n, h, w, c, -(-c // ALIGNMENT) * ALIGNMENT, padded=True)

    def _result(self, name: str) -> int:
        if name in self.graph.constants:
            return self._constant(name)
        sources = self._placed_before(name)
        if not sources or name in self.outer:
            return self.copy_result(name)
        # What was computed straight into the caller's array, though a copy of it lies nearer.
        for tensor in (self.placed[source] for source in sources):
            taken = tensor in self.program.outputs or tensor in self.program.inputs
            if self.program.tensors[tensor].block is None and not taken:
                return tensor
        source, tensor = sources[0], self.placed[sources[0]]
        n, h, w, c = self._pixels(source)
        outer = self.add_tensor(Tensor(_native.TensorDesc(n, h, w, c, c, nchw=True), None))
        self._step(Node("to_nchw", name, (source,), (name,)), (tensor,), outer)
        return outer

    def _constant(self, name: str) -> int:
        """A result that depends on no input."""
        value = self.graph.constants[name]
        whole = value.dtype.kind in "iub" and (np.abs(value.astype(np.float64)) <= EXACT).all()
        if not (whole or value.dtype == np.float32) or not value.size:
            raise ActivsparseError(
                f"{self.graph.name}: output '{name}' is a constant of type {value.dtype} and shape "
                f"{value.shape}, which float32 does not hold: drop it from the outputs, or use ",
                Option("fallback", "onnxruntime"),
            )
        desc = _native.TensorDesc(1, 1, 1, value.size, value.size)
        outer = self.add_tensor(Tensor(desc, None))
        arrays = {"value": np.ascontiguousarray(value.reshape(-1), np.float32)}
        self._step(Node("constant", name, (), (name,), arrays=arrays), (), outer)
        return outer
