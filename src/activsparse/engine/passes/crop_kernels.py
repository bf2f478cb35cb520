"""Kernels without the rows and columns that no computed position has an input for.

On maps hardly larger than a kernel, and with few positions left by a mask, some of its taps only
ever meet padding or zeros that a mask has left; so do the outer ones of a kernel dilated beyond
the map. Small maps take as long as reading their weights, so what nobody reads is left out.
"""

from __future__ import annotations

import numpy as np

from activsparse.engine.graph import Graph, Node
from activsparse.engine.passes.windows import Plane, computed, inputs_of_taps

__all__ = ["crop_kernels"]

_AXES = ("h", "w")
_BEFORE, _AFTER = ("pad_top", "pad_left"), ("pad_bottom", "pad_right")


def crop_kernels(graph: Graph) -> Graph:
    """Crop the kernels of all float convolutions with one group.

    The attribute `taps` keeps how many a kernel had: what a dense convolution costs stays the same.
    """
    graph = graph.copy()
    for node in graph.nodes:
        if node.op == "conv" and node.attributes.get("group", 1) == 1:
            cropped = _cropped(graph, node)
            if cropped is not None:
                graph.nodes.replace(node, cropped)
    return graph


def _cropped(graph: Graph, node: Node) -> Node | None:
    weight = node.arrays["weight"]
    used = _taps(graph, node)
    if weight.ndim != 4 or used.all() or not used.any():
        return None
    crop: list[slice] = []
    pads: dict[str, int] = {}
    for axis, name in enumerate(_AXES):
        gap = node.attributes.get(f"dilation_{name}", 1)
        taps = np.flatnonzero(used.any(axis=1 - axis))
        before = node.attributes.get(_BEFORE[axis], 0)
        after = node.attributes.get(_AFTER[axis], 0)
        # Pads shrink with the kernel, and never below nothing.
        first = min(int(taps[0]), before // gap)
        left = min(used.shape[axis] - 1 - int(taps[-1]), after // gap)
        crop.append(slice(first, used.shape[axis] - left))
        pads |= {_BEFORE[axis]: before - gap * first, _AFTER[axis]: after - gap * left}
    smaller = np.ascontiguousarray(weight[:, :, crop[0], crop[1]])
    if smaller.shape == weight.shape:
        return None
    node = node.with_arrays(weight=smaller)
    return node.with_attributes(taps=int(used.size), **pads)


def _taps(graph: Graph, node: Node) -> Plane:
    """(KH, KW): which taps meet an input that may be other than zero, for a computed position."""
    *_, height, width = graph.shape(node.inputs[0])
    size = graph.shape(node.output)[2:]
    if not node.arrays.keys() & {"mask", "source", "input_mask"}:
        # Rows and columns tell by themselves: large maps would take longer than all other passes.
        return np.logical_and.outer(
            _met(node, 0, height, size[0]),
            _met(node, 1, width, size[1]),
        )
    live = node.arrays.get("input_mask", np.ones((height, width), np.uint8)).astype(bool)
    used = np.zeros(node.arrays["weight"].shape[2:], dtype=bool)
    at = computed(node, np.ones(size, dtype=bool))
    for tap, y, x in inputs_of_taps(node, at, (height, width)):
        used[tap] = live[y, x].any()
    return used


def _met(node: Node, axis: int, inputs: int, outputs: int) -> Plane:
    """Which taps of an axis meet any of its inputs, for any of its outputs."""
    name, kernel = _AXES[axis], node.arrays["weight"].shape[2 + axis]
    starts = np.arange(outputs) * node.attributes.get(f"stride_{name}", 1)
    starts -= node.attributes.get(_BEFORE[axis], 0)
    at = starts[:, None] + np.arange(kernel) * node.attributes.get(f"dilation_{name}", 1)
    met: Plane = ((at >= 0) & (at < inputs)).any(axis=0)
    return met
