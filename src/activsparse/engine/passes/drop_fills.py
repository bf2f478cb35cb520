"""Fill `nearest` only where somebody reads it: what readers need, followed backwards."""

from __future__ import annotations

import numpy as np

from activsparse.engine.graph import Graph, Node
from activsparse.engine.passes.windows import Plane, computed, gathered, inputs_of_taps

__all__ = ["NOT_READ", "drop_fills"]

NOT_READ = -1
"""In a convolution's `source`: nobody reads this skipped position, it may hold anything."""

_POINTWISE = ("activate", "add", "concat", "mask_multiply", "mul", "prelu", "scale_shift")


def drop_fills(graph: Graph) -> Graph:
    """Take out of every `source` the skipped positions that no reader of the result needs.

    Readers are followed where, in any algorithm, what stands at a position that a result does not
    need cannot get into it.
    """
    graph = graph.copy()
    read: dict[str, Plane] = {}  # positions some reader met so far needs
    for node in reversed(list(graph.nodes)):
        shape = graph.shape(node.output)
        needed = read.get(node.output)
        if len(shape) != 4:  # no image, and of more axes perhaps than numpy has
            needed = np.ones((), dtype=bool)
        elif needed is None or node.output in graph.outputs:
            needed = np.ones(shape[2:], dtype=bool)
        if node.op == "conv" and "source" in node.arrays:
            graph.nodes.replace(node, _without(node, needed))
        for operand, value in enumerate(node.inputs):
            size = graph.shape(value)[2:]
            if len(size) == 2:
                plane = _read_by(node, operand, needed, size)
                read[value] = read[value] | plane if value in read else plane
    return graph


def _without(conv: Node, needed: Plane) -> Node:
    source = conv.arrays["source"]
    filled = source != np.arange(source.size, dtype=source.dtype)
    kept = np.where(filled & ~needed.reshape(-1), NOT_READ, source)
    return conv.with_arrays(source=kept.astype(source.dtype))


def _read_by(node: Node, operand: int, needed: Plane, size: tuple[int, ...]) -> Plane:
    """Positions of an operand, of this (H, W), that the needed ones of the result depend on."""
    if node.op == "conv" and operand == 0:
        return _windows(node, computed(node, needed), size)
    if node.op in (*_POINTWISE, "conv") and needed.shape == size:
        return needed
    if node.op == "gather_positions":
        return gathered(node, needed)
    return np.ones(size, dtype=bool)


def _windows(conv: Node, at: Plane, size: tuple[int, ...]) -> Plane:
    """What computed positions see of an input; everything where Winograd's tiles may mix it."""
    attributes, (*_, kernel_h, kernel_w) = conv.attributes, conv.arrays["weight"].shape
    if attributes.get("group", 1) == 1 and (kernel_h, kernel_w) != (1, 1):
        return np.ones(size, dtype=bool)
    plane = np.zeros(size, dtype=bool)
    for _, y, x in inputs_of_taps(conv, at, size):
        plane[y, x] = True
    return plane
