"""Operators on values of any rank: slices, transpositions, arithmetic with repetition.

They become `map`, `combine` and `softmax_axis`, which work on views (docs/operators.md), or views
themselves, which the lowering resolves.
"""

from __future__ import annotations

import math

import numpy as np

from activsparse.engine.graph import Node
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.selection import take
from activsparse.engine.passes.convert.source import Source

__all__ = [
    "combine",
    "concat",
    "depth_to_space",
    "expand",
    "log_softmax",
    "slice_",
    "softmax",
    "space_to_depth",
    "split",
    "tile",
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


def combine(source: Source) -> list[Node]:
    """Arithmetic between values, which may repeat along any axes; minima and maxima of several."""
    function = _FUNCTIONS[source.node.op]
    if len(source.node.inputs) == 2 and source.node.op not in ("Max", "Min"):
        inputs = (source.activation(0), source.activation(1))
        return [source.engine_node("combine", {"function": function}, inputs=inputs)]
    if len(source.node.inputs) == 2 and not any(map(source.is_constant, (0, 1))):
        inputs = (source.activation(0), source.activation(1))
        return [source.engine_node("combine", {"function": function}, inputs=inputs)]
    return _extreme(source, function)


def _extreme(source: Source, function: str) -> list[Node]:
    """Max or Min of several values, of which single numbers are bounds of a clip."""
    chain, value, bounds = Chain(source), "", []
    for index, name in enumerate(source.node.inputs):
        if source.is_constant(index):
            constant = source.constant(index, "operand")
            single = constant.size == 1 and constant.ndim <= len(source.output_shape)
            if single and constant.dtype == np.float32 and not np.isnan(constant).any():
                bounds.append(float(constant.reshape(-1)[0]))  # infinite: none, as JAX writes it
                continue
            constant = source.weights(index, "operand")
            name = chain.constant(constant, constant.shape)
        value = chain.combine(function, value, name) if value else name
    if chain.shape(value) != source.output_shape:  # repeated by the shape of a single number
        value = chain.expand(value, source.output_shape)
    if bounds and function == "maximum":
        value = chain.activate(value, "clip", lo=max(bounds), hi=math.inf)
    elif bounds:
        value = chain.activate(value, "clip", lo=-math.inf, hi=min(bounds))
    return chain.done(value)


def transpose(source: Source) -> list[Node]:
    """Transpose, as a view."""
    order = [int(axis) for axis in source.attribute("perm", range(len(source.shape()))[::-1])]
    chain = Chain(source)
    return chain.done(chain.transpose(source.activation(), order))


def expand(source: Source) -> list[Node]:
    """Expand, as a view."""
    return [source.engine_node("expand")]


def tile(source: Source) -> list[Node]:
    """Tile: along each axis a new one in front of it, along which it repeats."""
    repeats = [int(count) for count in source.constant(1, "repeats").reshape(-1)]
    chain, x = Chain(source), source.activation()
    for axis, count in enumerate(repeats):
        if count == 1:
            continue
        shape = chain.shape(x)
        split = (*shape[:axis], 1, *shape[axis:])
        whole = (*shape[:axis], count, *shape[axis:])
        longer = (*shape[:axis], count * shape[axis], *shape[axis + 1 :])
        x = chain.reshape(chain.expand(chain.reshape(x, split), whole), longer)
    return chain.done(x)


def depth_to_space(source: Source) -> list[Node]:
    """DepthToSpace, as views."""
    n, c, h, w = source.image_shape()
    b = int(source.attribute("blocksize", 1))
    chain, x = Chain(source), source.activation()
    if source.attribute("mode", "DCR") == "CRD":
        cut = chain.reshape(x, (n, c // b**2, b, b, h, w))
        moved = chain.transpose(cut, (0, 1, 4, 2, 5, 3))
    else:
        cut = chain.reshape(x, (n, b, b, c // b**2, h, w))
        moved = chain.transpose(cut, (0, 3, 4, 1, 5, 2))
    return chain.done(chain.reshape(moved, source.output_shape))


def space_to_depth(source: Source) -> list[Node]:
    """SpaceToDepth, as views."""
    n, c, h, w = source.image_shape()
    b = int(source.attribute("blocksize", 1))
    chain = Chain(source)
    cut = chain.reshape(source.activation(), (n, c, h // b, b, w // b, b))
    by_channel = source.attribute("mode", "DCR") == "CRD"  # from opset 28 on
    moved = chain.transpose(cut, (0, 1, 3, 5, 2, 4) if by_channel else (0, 3, 5, 1, 2, 4))
    return chain.done(chain.reshape(moved, source.output_shape))


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
    """Slice, along one axis after the other; backwards it picks positions."""
    shape = source.shape()
    starts, ends = source.setting("starts", 1), source.setting("ends", 2)
    if starts is None or ends is None:
        source.wrong("its bounds are missing", "export the model again")
    axes = source.setting("axes", 3, np.arange(len(starts)))
    steps = source.setting("steps", 4, np.ones(len(starts), np.int64))
    chain, value = Chain(source), source.activation()
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis, step = int(axis) % len(shape), int(step)
        first, last, _ = slice(int(start), int(end), step).indices(shape[axis])
        if step < 0:
            value = take(chain, value, axis, np.arange(first, last, step))
        else:
            value = chain.slice(value, axis, first, source.output_shape[axis], step)
    return chain.done(value)


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


def log_softmax(source: Source) -> list[Node]:
    """LogSoftmax: x - max - log(sum(exp(x - max))), by the axes of Softmax."""
    shape = source.shape()
    old = source.graph.opset < 13
    axis = int(source.attribute("axis", 1 if old else -1)) % len(shape)
    chain, x = Chain(source), source.activation()
    if old and axis != len(shape) - 1:
        x = chain.reshape(x, (math.prod(shape[:axis]), math.prod(shape[axis:])))
        axis = 1
    one = [1 if i == axis else size for i, size in enumerate(chain.shape(x))]
    shifted = chain.combine("subtract", x, chain.add("reduce", x, shape=one, function="maximum"))
    total = chain.add("reduce", chain.activate(shifted, "exp"), shape=one, function="sum")
    y = chain.combine("subtract", shifted, chain.activate(total, "log"))
    return chain.done(chain.reshape(y, shape) if chain.shape(y) != shape else y)
