"""Convolutions of the same input that are added, and norms of that input, into one convolution.

They are linear: (w1 * x + b1) + (w2 * x + b2) = (w1 + w2) * x + (b1 + b2), where a smaller kernel
counts as a larger one with zeros around it, and a scale per channel as a kernel with one weight.
Networks that are trained with such branches (RepVGG, MobileOne) are exported with them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from activsparse.engine.graph import Array, Graph, Node
from activsparse.engine.passes.activations import activation_of, has_activation

__all__ = ["merge_parallel"]

_SAME = ("stride_h", "stride_w", "group")
_MASKS = ("mask", "source", "input_mask")


def merge_parallel(graph: Graph) -> Graph:
    """Merge the two operands of every `add` that are branches of one input.

    Only where the one takes in all positions and channels that the other does, so that a NaN of the
    input reaches the outputs it did before.
    """
    graph = graph.copy()
    for add in [node for node in graph.nodes if node.op == "add"]:
        for first, second in _orders(graph, add):
            merged = _merge(graph, first, second)
            if merged is not None:
                merged = replace(merged, outputs=add.outputs)
                graph.nodes.replace(add, merged.with_attributes(**activation_of(add)))
                graph.nodes.replace(first)
                graph.nodes.replace(second)
                break
    return graph


def _orders(graph: Graph, add: Node) -> Iterator[tuple[Node, Node]]:
    branches = [graph.producer(name) for name in add.inputs]
    one, two = (branch if _is_branch(graph, branch) else None for branch in branches)
    if one is None or two is None or one is two or one.inputs != two.inputs:
        return
    if graph.shape(one.output) == graph.shape(two.output):
        yield one, two
        yield two, one


def _is_branch(graph: Graph, node: Node | None) -> bool:
    return (
        node is not None
        and node.op in ("conv", "scale_shift")
        and len(node.inputs) == 1
        and not has_activation(node)
        and graph.uses(node.output) == 1
        and len(graph.shape(node.inputs[0])) == len(graph.shape(node.output)) == 4
    )


def _merge(graph: Graph, first: Node, second: Node) -> Node | None:
    """The sum as a convolution with the kernel of `first`; None where that does not hold it."""
    if first.op != "conv":
        return None
    weight = first.arrays["weight"].astype(np.float64)
    bias = np.zeros(len(weight)) + first.arrays.get("bias", 0.0)
    if second.op == "conv":
        if any(first.attributes.get(key, 1) != second.attributes.get(key, 1) for key in _SAME):
            return None
        if not all(_alike(first, second, name) for name in _MASKS):
            return None
        place = _place(first, second)
        if place is None:
            return None
        weight[:, :, place[0], place[1]] += second.arrays["weight"]
        bias = bias + second.arrays.get("bias", 0.0)
    else:
        shapes_kept = graph.shape(first.inputs[0]) == graph.shape(first.output)
        if not shapes_kept or first.arrays.keys() & set(_MASKS):
            return None
        place = _place(first, None)
        if place is None:
            return None
        outputs = np.arange(len(weight))
        weight[outputs, outputs % weight.shape[1], place[0].start, place[1].start] += second.arrays[
            "scale"
        ].reshape(-1)
        bias = bias + second.arrays["shift"].reshape(-1)
    arrays = {"weight": _float32(weight), "bias": _float32(bias)}
    if any("skipped_value" in node.arrays for node in (first, second)):
        values = (node.arrays.get("skipped_value", 0.0) for node in (first, second))
        arrays["skipped_value"] = _float32(np.zeros(len(weight)) + sum(values))
    return first.with_arrays(**arrays)


def _alike(first: Node, second: Node, name: str) -> bool:
    one, two = first.arrays.get(name), second.arrays.get(name)
    return one is two or (one is not None and two is not None and np.array_equal(one, two))


def _place(node: Node, other: Node | None) -> tuple[slice, slice] | None:
    """Where in the node's kernel the other one's lies, or its input; None if it does not."""
    y, x = (_along(side, axis, node, other) for axis, side in enumerate(("top", "left")))
    return None if y is None or x is None else (y, x)


def _along(side: str, axis: int, node: Node, other: Node | None) -> slice | None:
    dilation = f"dilation_{'hw'[axis]}"
    size, pad, step = 1, 0, node.attributes.get(dilation, 1)
    if other is not None:
        size = other.arrays["weight"].shape[2 + axis]
        pad = other.attributes.get(f"pad_{side}", 0)
        if size > 1 and other.attributes.get(dilation, 1) != step:
            return None
    first, rest = divmod(node.attributes.get(f"pad_{side}", 0) - pad, step)
    if first < 0 or rest or first + size > node.arrays["weight"].shape[2 + axis]:
        return None
    return slice(first, first + size)


def _float32(values: Array) -> Array:
    return np.ascontiguousarray(values, dtype=np.float32)
