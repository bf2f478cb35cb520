"""The part of the lowering that deals with values of any rank.

Transpositions, slices and reshapes are views of the memory their source lies in. What computes on
views writes its result where it is needed: into its place in a concatenation, or into the caller's
array, through reshapes and transpositions in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from activsparse import _native
from activsparse.engine.graph import INSTEAD, Array, Graph, Node, NodeError
from activsparse.engine.program import Program, Step, Tensor
from activsparse.engine.views import View, dense_strides

__all__ = ["STRIDED", "VIEWS", "ViewLowering"]

VIEWS = ("expand", "reshape", "slice", "transpose")
"""Operators that compute nothing."""

STRIDED = (
    *("combine", "constant", "interleave", "join", "map", "matmul", "reduce", "softmax_axis"),
    "top_k",
)
"""Operators on views; `join` is a concatenation along any axis, `interleave` one of every so many
rows and columns of an image."""

_MOST_AXES = 8


class ViewLowering:
    """Places values as views and emits the operators that work on views."""

    def __init__(self, graph: Graph) -> None:
        """Start with nothing placed."""
        self.graph = graph
        self.program = Program()
        self.placed: dict[str, int] = {}  # images and vectors: value -> tensor
        self.views: dict[str, View] = {}
        self.outer: dict[str, int] = {}  # results that views write: value -> the caller's array
        self.destinations: dict[str, View | None] = {}

    # Reading --------------------------------------------------------------------------------------

    def view(self, value: str) -> View:
        """Where a value's elements lie."""
        if value in self.views:
            return self.views[value]
        tensor = self.placed[value]
        desc = self.program.tensors[tensor].desc
        shape = self.graph.shape(value)
        if desc.nchw or len(shape) not in (2, 4):
            strides = dense_strides(shape)
        else:
            h, w, s = desc.h, desc.w, desc.stride
            strides = (h * w * s, 1, w * s, s)[: len(shape)]
        return View(tensor, 0, shape, strides)

    def lies_as_image(self, value: str) -> bool:
        """Whether image operators can read the value where it lies."""
        return value in self.placed or self._image_of(self.views[value]) is not None

    def image(self, value: str) -> int:
        """The value as a tensor that image operators read; copied where it lies otherwise."""
        if value not in self.placed:
            tensor = self._image_of(self.views[value])
            if tensor is not None:
                self.placed[value] = self.add_tensor(tensor)
            else:
                source = self.views[value]
                name = f"{value} to pixels"
                self.emit(Node("map", name, (value,), (value,)), [source], self._as_image(value))
        return self.placed[value]

    def _image_of(self, view: View) -> Tensor | None:
        image, base = view.as_image(), self.program.tensors[view.tensor]
        if image is None or base.block is None:
            return None
        n, h, w, c, stride = image
        desc = _native.TensorDesc(n, h, w, c, stride)
        return Tensor(desc, base.block, base.offset + view.offset)

    def _as_image(self, value: str) -> View:
        self.place(value)
        self.views.pop(value, None)
        return self.view(value)

    # Views ----------------------------------------------------------------------------------------

    def alias(self, node: Node) -> None:
        """Place the result of one of VIEWS."""
        name, shape = node.inputs[0], self.graph.shape(node.output)
        source = self.view(name)
        if node.op == "transpose":
            self.views[node.output] = source.permute(node.attributes["order"])
        elif node.op == "slice":
            a = node.attributes
            part = source.narrow(a["axis"], a["start"], shape[a["axis"]], a["step"])
            self.views[node.output] = part
        elif node.op == "expand":
            self.views[node.output] = source.broadcast(shape)
        else:
            view = source.reshape(shape)
            if view is None:
                self._moved(node, source)
            else:
                self.views[node.output] = view

    def _moved(self, node: Node, source: View) -> None:
        """Copy the source of a reshape, to where its result is needed if the shapes allow it."""
        view = self._target(node.output, View(0, 0, (), ()))
        target = view.reshape(source.shape)
        if target is None:
            self.placed.pop(node.output, None)
            target = self._dense(source.shape)
            view = replace(target, shape=view.shape, strides=dense_strides(view.shape))
        self.emit(replace(node, op="map", attributes={}), [source], target)
        if node.output not in self.placed:
            self.views[node.output] = view

    # Writing --------------------------------------------------------------------------------------

    def strided(self, node: Node) -> None:
        """Emit one of STRIDED, or an image operator as one of these."""
        special = {
            "constant": self._constant_view,
            "interleave": self._join,
            "join": self._join,
            "matmul": self._matmul,
            "reduce": self._reduce,
            "top_k": self._top_k,
        }
        if node.op in special:
            special[node.op](node)
            return
        node = _on_views(node, self.graph)
        shape = self.graph.shape(node.output)
        sources = [self.view(name).broadcast(shape) for name in node.inputs]
        self.emit(node, sources, self._target(node.output, sources[0]))

    def emit(self, node: Node, sources: Sequence[View], target: View) -> None:
        """Add a step on views and note where its result lies."""
        if len(target.shape) > _MOST_AXES:
            raise NodeError(
                node,
                f"{self.graph.name}: {node.title}: {len(target.shape)} axes; at most "
                f"{_MOST_AXES} are supported",
                *INSTEAD,
            )
        names = ("x",) if len(sources) == 1 else ("a", "b", "c")[: len(sources)]
        arrays: dict[str, Array] = {"shape": np.array(target.shape or (1,), np.int32)}
        offsets = {}
        for name, view in zip((*names, "y"), (*sources, target), strict=True):
            arrays[f"{name}_strides"] = np.array(view.strides or (0,), np.int32)
            offsets[f"{name}_offset"] = view.offset
        if not target.shape:
            node = node.with_arrays(**{k: v.reshape(1) for k, v in node.arrays.items()})
        step = node.with_arrays(**arrays).with_attributes(**offsets)
        tensors = tuple(view.tensor for view in sources)
        self.program.steps.append(Step(step, tensors, (target.tensor,)))
        if node.output not in self.placed:
            self.views[node.output] = target

    def _target(self, value: str, source: View) -> View:
        """Where to write a value: where it is needed, else a place of its own."""
        if self.read_as_image(value):
            return self._as_image(value)
        needed = self.destination(value)
        like = source.strides if source.shape == self.graph.shape(value) else None
        return needed or self._dense(self.graph.shape(value), like)

    def read_as_image(self, value: str) -> bool:
        """Whether an image operator reads the value."""
        if len(self.graph.shape(value)) not in (2, 4):
            return False
        return any(node.op not in (*STRIDED, *VIEWS) for node in self.graph.readers(value))

    def destination(self, value: str) -> View | None:
        """The place in a concatenation or a result a value must finally be written to."""
        if value not in self.destinations:
            self.destinations[value] = self._destination(value)
        return self.destinations[value]

    def _destination(self, value: str) -> View | None:
        shape = self.graph.shape(value)
        if value in self.graph.outputs:
            return self._result_view(value)
        reader = self.graph.only_consumer(value)
        if reader is None:
            return None
        if reader.op in ("interleave", "join"):
            return self._parts(reader)[reader.inputs.index(value)]
        if reader.op not in ("reshape", "transpose"):
            return None
        after = self.destination(reader.output)
        if after is None or reader.op == "reshape":
            return after and after.reshape(shape)
        return after.permute([int(i) for i in np.argsort(reader.attributes["order"])])

    def _result_view(self, value: str) -> View:
        shape = self.graph.shape(value)
        if value not in self.outer:
            size = int(np.prod(shape, dtype=np.int64))
            desc = _native.TensorDesc(1, 1, 1, size, size)
            self.outer[value] = self.add_tensor(Tensor(desc, None))
        return View(self.outer[value], 0, shape, dense_strides(shape))

    def _joined(self, node: Node) -> View:
        """Where a concatenation lies."""
        if self.read_as_image(node.output):
            return self._as_image(node.output)
        whole = self.destination(node.output)
        if whole is None:
            whole = self.destinations[node.output] = self._dense(self.graph.shape(node.output))
        return whole

    def _parts(self, node: Node) -> list[View]:
        """Where the inputs of a `join` or `interleave` lie in its result."""
        whole, parts, start = self._joined(node), [], 0
        for i, name in enumerate(node.inputs):
            shape = self.graph.shape(name)
            if node.op == "join":
                axis = int(node.attributes["axis"])
                parts.append(whole.narrow(axis, start, shape[axis]))
                start += shape[axis]
            else:
                part, (step_h, step_w) = whole, node.attributes["steps"]
                row, column = node.attributes["starts"][i]
                part = part.narrow(2, row, shape[2], step_h).narrow(3, column, shape[3], step_w)
                parts.append(part)
        return parts

    def _join(self, node: Node) -> None:
        """Copy the parts that were not written in place."""
        for i, (name, part) in enumerate(zip(node.inputs, self._parts(node), strict=True)):
            source = self.view(name)
            if source != part:
                copy = Node("map", f"{node.name}[{i}]", (name,), (node.output,))
                self.emit(copy, [source], part)
        self.views[node.output] = self._joined(node)

    def _constant_view(self, node: Node) -> None:
        """Write a constant where it is read as a view."""
        value = node.arrays["value"]
        view = self._dense(value.shape)
        flat = node.with_arrays(value=np.ascontiguousarray(value.reshape(-1)))
        self.program.steps.append(Step(flat, (), (view.tensor,)))
        self.views[node.output] = view

    def _reduce(self, node: Node) -> None:
        """The result's view repeats along the axes that are reduced."""
        source = self.view(node.inputs[0])
        y = self._target(node.output, View(0, 0, (), ()))
        self.emit(node, [source], y.broadcast(source.shape))
        if node.output not in self.placed:
            self.views[node.output] = y

    def _top_k(self, node: Node) -> None:
        """Views without the axis that is searched, whose steps are attributes."""
        axis = int(node.attributes["axis"])
        source = self.view(node.inputs[0])
        y = self._target(node.output, View(0, 0, (), ()))
        rows = [
            replace(
                view,
                shape=(*view.shape[:axis], *view.shape[axis + 1 :]),
                strides=(*view.strides[:axis], *view.strides[axis + 1 :]),
            )
            for view in (source, y)
        ]
        counts = {
            "count": y.shape[axis],
            "x_step": source.strides[axis],
            "y_step": y.strides[axis],
        }
        self.emit(node.with_attributes(**counts), rows[:1], rows[1])
        if node.output not in self.placed:
            self.views[node.output] = y

    def _matmul(self, node: Node) -> None:
        """Views with the axes (batches..., M, N, K), each with stride 0 along the one it lacks."""
        shape = self.graph.shape(node.output)
        a, b = (self.view(name) for name in node.inputs)
        *batches, m, n = shape
        k = a.shape[-1]
        a, b = a.broadcast((*batches, m, k)), b.broadcast((*batches, k, n))
        # Columns of a left matrix that lie in one piece make columns of the product that do.
        like = View(0, 0, (), ())
        if a.strides[-2] == 1:
            like = replace(a, shape=shape, strides=(*a.strides[:-1], b.strides[-1]))
        y = self._target(node.output, like)
        whole = [
            replace(view, shape=(*batches, m, n, k), strides=strides)
            for view, strides in (
                (a, (*a.strides[:-1], 0, a.strides[-1])),
                (b, (*b.strides[:-2], 0, b.strides[-1], b.strides[-2])),
                (y, (*y.strides, 0)),
            )
        ]
        self.emit(node, whole[:2], whole[2])
        if node.output not in self.placed:
            self.views[node.output] = y

    def copy_result(self, name: str) -> int:
        """Write a result that is not there yet to the caller's array."""
        source = self.view(name)
        if self.outer.get(name) in self.program.outputs:  # named twice
            del self.outer[name]
        target = self._result_view(name)
        if source != target:
            self.emit(Node("map", name, (name,), (name,)), [source], target)
        return target.tensor

    # Memory ---------------------------------------------------------------------------------------

    def add_tensor(self, tensor: Tensor) -> int:
        """Return the index of a new tensor."""
        self.program.tensors.append(tensor)
        return len(self.program.tensors) - 1

    def place(self, value: str) -> int:
        """The tensor of an image or vector, made on first use."""
        raise NotImplementedError

    def _dense(self, shape: Sequence[int], like: Sequence[int] | None = None) -> View:
        size = int(np.prod(shape, dtype=np.int64))
        self.program.block_bytes.append(4 * size)
        desc = _native.TensorDesc(1, 1, 1, size, size)
        tensor = self.add_tensor(Tensor(desc, len(self.program.block_bytes) - 1))
        return View(tensor, 0, tuple(shape), dense_strides(shape, like))


def _on_views(node: Node, graph: Graph) -> Node:
    """An image operator as the one that does the same on views."""
    if node.op in ("activate", "copy"):
        return replace(node, op="map")
    if node.op == "scale_shift":
        rank = len(graph.shape(node.output))
        tables = {k: v.reshape(1, -1, *[1] * (rank - 2)) for k, v in node.arrays.items()}
        return replace(node, op="map", arrays=tables)
    if node.op in ("add", "mul"):
        function = {"add": "add", "mul": "multiply"}[node.op]
        return replace(node, op="combine").with_attributes(function=function)
    if node.op == "softmax":
        return replace(node, op="softmax_axis").with_attributes(axis=1)
    return node
