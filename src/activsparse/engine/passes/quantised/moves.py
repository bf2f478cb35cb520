"""Operators that move elements of images: which of a result's come from where.

Each is asked what it makes of an image whose elements are their own numbers. That knows slices,
paddings of all modes and gathers alike, whatever their operator set spells them as.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from activsparse.engine.graph import Array, Graph, Node, Shape
from activsparse.engine.passes.evaluate import evaluate
from activsparse.errors import ActivsparseError

__all__ = ["MOVING", "Move", "move_of", "slices_of"]

MOVING = ("Gather", "Pad", "Slice", "slice")
"""ONNX operators, and the engine's `slice`, that `move_of` is asked about."""


@dataclass(frozen=True)
class Move:
    """Where the pixels of a result come from.

    Attributes:
        first: the first of the channels that the result has; they lie side by side.
        source: int32 (OH*OW), positions in the input, -1 for `fill`; None where all stay in place.
        fill: the real value of what comes from nowhere.
    """

    first: int
    source: Array | None
    fill: float


def move_of(graph: Graph, node: Node) -> Move | None:
    """What one of MOVING does to an image or a vector; None where it is more than a `Move`."""
    before, after = graph.shape(node.inputs[0]), graph.shape(node.outputs[0])
    if len(before) not in (2, 4) or len(after) != len(before) or after[0] != before[0]:
        return None
    found = _numbers(graph, node, before)
    if found is None or found[0].shape != after:
        return None
    index, fill = found
    _, c, h, w = (*before, 1, 1)[:4]
    n, out_c, out_h, out_w = (*after, 1, 1)[:4]
    index = index.reshape(n, out_c, out_h * out_w)
    kept = index[0, 0] >= 0
    if not kept.any():
        return None
    first = int(index[0, 0, kept][0]) // (h * w)
    source = np.where(kept, index[0, 0] - first * h * w, -1)
    planes = np.arange(n)[:, None] * c + first + np.arange(out_c)
    if not np.array_equal(index, np.where(kept, planes[..., None] * (h * w) + source, -1)):
        return None
    if first + out_c > c or source.max() >= h * w or (source[kept] < 0).any():
        return None
    if (out_h, out_w) == (h, w) and np.array_equal(source, np.arange(h * w)):
        return Move(first, None, fill)
    return Move(first, np.ascontiguousarray(source, np.int32), fill)


def slices_of(graph: Graph, split: Node) -> list[Node]:
    """A `Split` as the engine's slices, one for each of its results that somebody reads."""
    shape = graph.shape(split.inputs[0])
    axis = int(split.attributes.get("axis", 0)) % len(shape)
    slices, start = [], 0
    for name in split.outputs:
        attributes = {"axis": axis, "start": start, "step": 1}
        start += graph.shape(name)[axis] if name else 0
        if name:
            slices.append(Node("slice", split.name, split.inputs[:1], (name,), attributes))
    return slices


def _numbers(graph: Graph, node: Node, shape: Shape) -> tuple[Array, float] | None:
    """The result for an image of its elements' numbers, -1 for what is none, and what that is."""
    numbers = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    if node.op == "slice":
        a = node.attributes
        size = graph.shape(node.outputs[0])[a["axis"]]
        picked = a["start"] + a["step"] * np.arange(size)
        return np.take(numbers, picked, a["axis"]).astype(np.int64), 0.0
    constants = {name: graph.constants.get(name) for name in node.inputs[1:] if name}
    if any(value is None for value in constants.values()):
        return None
    fill: Array | float = 0.0
    if node.op == "Pad" and graph.opset < 11:
        fill = node.attributes.get("value", 0.0)
        node = node.with_attributes(value=-1.0)
    elif node.op == "Pad":
        if len(node.inputs) > 2 and node.inputs[2]:
            fill = graph.constants[node.inputs[2]]
        inputs = (*node.inputs[:2], "fill", *node.inputs[3:])
        node, constants["fill"] = replace(node, inputs=inputs), np.array(-1.0)
    x = "image"
    known = {name: np.asarray(value) for name, value in constants.items()} | {x: numbers}
    asked = replace(node, inputs=(x, *node.inputs[1:]))
    try:
        (result,) = evaluate(replace(graph, constants=known), asked).values()
    except ActivsparseError:
        return None
    value = np.asarray(fill, np.float32).reshape(-1)
    return result.astype(np.int64), float(value[0]) if value.size else 0.0
