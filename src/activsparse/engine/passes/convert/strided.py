"""Operators on values of any rank: slices, transpositions, arithmetic with repetition.

They become `map`, `combine` and `softmax_axis`, which work on views (docs/operators.md), or views
themselves, which the lowering resolves.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from activsparse.engine.graph import Array, Node
from activsparse.engine.passes.convert.source import Source

__all__ = [
    "affine",
    "combine",
    "concat",
    "gather",
    "power",
    "slice_",
    "softmax",
    "split",
    "transpose",
]

_FUNCTIONS = {
    "Add": "add",
    "Div": "divide",
    "Max": "maximum",
    "Min": "minimum",
    "Mul": "multiply",
    "Sub": "subtract",
}


def affine(source: Source, scale: npt.ArrayLike, shift: npt.ArrayLike, index: int) -> list[Node]:
    """Multiply input `index` and add, with constants that repeat along any of its axes."""
    shape = source.shape(index)
    if source.output_shape != shape:
        source.fail(
            f"its constant broadcasts {shape} to {source.output_shape}", "repeat it in the model"
        )
    arrays = {"scale": _table(scale, len(shape)), "shift": _table(shift, len(shape))}
    return [source.engine_node("map", inputs=(source.activation(index),), arrays=arrays)]


def _table(value: npt.ArrayLike, rank: int) -> Array:
    array = np.asarray(value)
    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    return np.ascontiguousarray(array, dtype=np.float32)


def combine(source: Source) -> list[Node]:
    """Arithmetic between two values, either of which may repeat along any axes."""
    if len(source.node.inputs) != 2:
        source.fail(f"it has {len(source.node.inputs)} operands", "use two at a time")
    inputs = (source.activation(0), source.activation(1))
    function = _FUNCTIONS[source.node.op]
    return [source.engine_node("combine", {"function": function}, inputs=inputs)]


def power(source: Source) -> list[Node]:
    """Pow: squares only."""
    exponent = source.constant(1, "exponent")
    if exponent.size != 1 or float(exponent.reshape(-1)[0]) != 2.0:
        source.fail("its exponent is not 2", "only squares are supported")
    x = source.activation(0)
    return [source.engine_node("combine", {"function": "multiply"}, inputs=(x, x))]


def transpose(source: Source) -> list[Node]:
    """Transpose, as a view."""
    shape = source.shape()
    order = [int(axis) for axis in source.attribute("perm", range(len(shape))[::-1])]
    moved = [axis for axis in order if shape[axis] != 1]
    if moved == sorted(moved):  # only axes of size one move: the elements keep their order
        return [source.engine_node("reshape")]
    return [source.engine_node("transpose", {"order": tuple(order)})]


def split(source: Source) -> list[Node]:
    """Split, as one slice per output."""
    axis = int(source.attribute("axis", 0)) % len(source.shape())
    nodes, first = [], 0
    for name in source.node.outputs:
        size = source.graph.shape(name)[axis]
        attributes = {"axis": axis, "start": first, "step": 1}
        nodes.append(Node("slice", source.node.name, (source.activation(),), (name,), attributes))
        first += size
    return nodes


def slice_(source: Source) -> list[Node]:
    """Slice forwards, along one axis after the other."""
    shape = source.shape()
    starts, ends = source.setting("starts", 1), source.setting("ends", 2)
    if starts is None or ends is None:
        source.fail("its bounds are missing", "export the model again")
    axes = source.setting("axes", 3, np.arange(len(starts)))
    steps = source.setting("steps", 4, np.ones(len(starts), np.int64))
    value, nodes = source.activation(), []
    for start, axis, step in zip(starts, axes, steps, strict=True):
        axis, step = int(axis) % len(shape), int(step)
        if step < 1:
            source.fail(f"its step is {step}", "only forward slices are supported")
        size = shape[axis]
        first = min(max(int(start) + (size if start < 0 else 0), 0), size)
        attributes = {"axis": axis, "start": first, "step": step}
        sizes = list(source.graph.shape(value))
        sizes[axis] = source.output_shape[axis]
        part = source.intermediate(f"axis{axis}", tuple(sizes))
        nodes.append(Node("slice", source.node.name, (value,), (part,), attributes))
        value = part
    nodes[-1] = replace(nodes[-1], outputs=source.node.outputs[:1])
    return nodes


def gather(source: Source) -> list[Node]:
    """Gather of a single index, as a slice."""
    index = source.constant(1, "index")
    shape = source.shape()
    if index.size != 1:
        source.fail(f"it gathers {index.size} indices", "only a single one is supported")
    axis = int(source.attribute("axis", 0)) % len(shape)
    attributes = {"axis": axis, "start": int(index.reshape(-1)[0]) % shape[axis], "step": 1}
    part = source.intermediate("part", (*shape[:axis], 1, *shape[axis + 1 :]))
    cut = Node("slice", source.node.name, (source.activation(),), (part,), attributes)
    return [cut, source.engine_node("reshape", inputs=(part,))]


def concat(source: Source) -> list[Node]:
    """Concat along any axis; that of channels is the operator `concat`."""
    rank = len(source.output_shape)
    axis = int(source.attribute("axis", 1)) % rank
    inputs = tuple(source.activation(i) for i in range(len(source.node.inputs)))
    if axis == 1 and rank in (2, 4):
        return [source.engine_node("concat", inputs=inputs)]
    return [source.engine_node("join", {"axis": axis}, inputs=inputs)]


def softmax(source: Source) -> list[Node]:
    """Softmax along any axis; over channels it is the operator `softmax`.

    Before opset 13 it runs over all axes from `axis` on, flattened.
    """
    shape = source.shape()
    old = source.graph.opset < 13
    axis = int(source.attribute("axis", 1 if old else -1)) % len(shape)
    if old and axis != len(shape) - 1:
        flat = (math.prod(shape[:axis]), math.prod(shape[axis:]))
        rows, shares = source.intermediate("rows", flat), source.intermediate("shares", flat)
        return [
            Node("reshape", source.node.name, (source.activation(),), (rows,)),
            Node("softmax", source.node.name, (rows,), (shares,)),
            source.engine_node("reshape", inputs=(shares,)),
        ]
    if axis == 1 and len(shape) in (2, 4):
        return [source.engine_node("softmax")]
    return [source.engine_node("softmax_axis", {"axis": axis})]
