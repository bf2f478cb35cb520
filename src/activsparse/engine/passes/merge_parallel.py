"""Convolutions of the same input that are added, and norms of that input, into one convolution.

They are linear: (w1 * x + b1) + (w2 * x + b2) = (w1 + w2) * x + (b1 + b2), where a smaller kernel
counts as a larger one with zeros around it, and a scale per channel as a kernel with one weight.
Networks that are trained with such branches (RepVGG, MobileOne) are exported with them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from activsparse.engine.graph import Array, Graph, Node, Shape
from activsparse.engine.passes.activations import activation_of, has_activation

__all__ = ["merge_parallel"]

_SAME = ("stride_h", "stride_w", "group")
_MASKS = ("mask", "source", "input_mask")


@dataclass
class _Term:
    """What a sum adds: a value, and the branches it is computed by if it is one or several."""

    value: str
    branch: Node | None
    merged: list[Node]


def merge_parallel(graph: Graph) -> Graph:
    """Merge what sums add where it is branches of one input, whatever is added in between.

    Only where one of two takes in all positions and channels that the other does, so that a NaN of
    the input reaches the outputs it did before.
    """
    graph = graph.copy()
    for add in [node for node in graph.nodes if node.op == "add"]:
        reader = graph.only_consumer(add.output)
        if reader is not None and _is_inner(graph, add.output, reader):
            continue
        adds, terms = _sum(graph, add)
        left = _merged(terms)
        alike = all(graph.shape(term.value) == graph.shape(add.output) for term in terms)
        if len(left) < len(terms) and alike:
            _rebuild(graph, adds, left)
    return graph


def _is_inner(graph: Graph, value: str, outer: Node) -> bool:
    """Whether a value is nothing but a part of the sum that `outer` adds."""
    node = graph.producer(value)
    return (
        node is not None
        and node.op == outer.op == "add"
        and not has_activation(node)
        and graph.uses(value) == 1
        and graph.shape(value) == graph.shape(outer.output)
    )


def _sum(graph: Graph, add: Node) -> tuple[list[Node], list[_Term]]:
    """The additions of a sum, the last one first, and its terms in order."""
    adds, terms = [add], []
    for value in add.inputs:
        node = graph.producer(value)
        if node is not None and _is_inner(graph, value, add):
            inner, parts = _sum(graph, node)
            adds += inner
            terms += parts
        else:
            branch = node if _is_branch(graph, node, graph.shape(add.output)) else None
            terms.append(_Term(value, branch, []))
    return adds, terms


def _is_branch(graph: Graph, node: Node | None, shape: Shape) -> bool:
    return (
        node is not None
        and node.op in ("conv", "scale_shift")
        and len(node.inputs) == 1
        and not has_activation(node)
        and graph.uses(node.output) == 1
        and len(graph.shape(node.inputs[0])) == 4
        and graph.shape(node.output) == shape
    )


def _merged(terms: list[_Term]) -> list[_Term]:
    left: list[_Term] = []
    for term in terms:
        for other in left:
            if _join(other, term):
                break
        else:
            left.append(term)
    return left


def _join(one: _Term, other: _Term) -> bool:
    """Make `one` the sum of both if that is a branch."""
    if one.branch is None or other.branch is None or one.branch.inputs != other.branch.inputs:
        return False
    whole = _merge(one.branch, other.branch) or _merge(other.branch, one.branch)
    if whole is None:
        return False
    one.merged = [*(one.merged or [one.branch]), other.branch]
    one.branch = whole
    return True


def _rebuild(graph: Graph, adds: list[Node], terms: list[_Term]) -> None:
    """Replace a sum by that of `terms`."""
    root = adds[0]
    nodes = [replace(t.branch, outputs=(t.value,)) for t in terms if t.branch and t.merged]
    total = terms[0].value
    for place, term in enumerate(terms[1:], 2):
        value = f"{root.output} of {place}"
        nodes.append(Node("add", root.name, (total, term.value), (value,)))
        graph.shapes[value] = graph.shape(root.output)
        total = value
    last = replace(nodes[-1], outputs=root.outputs)
    graph.nodes.replace(root, *nodes[:-1], last.with_attributes(**activation_of(root)))
    for node in adds[1:]:
        graph.nodes.replace(node)
    for term in terms:
        for node in term.merged:
            graph.nodes.replace(node)


def _merge(first: Node, second: Node) -> Node | None:
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
        if first.arrays.keys() & set(_MASKS):
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
