"""Kernels without the rows and columns that no computed position has an input for.

On maps hardly larger than a kernel, and with few positions left by a mask, some of its taps only
ever meet padding or zeros that a mask has left; so do the outer ones of a kernel dilated beyond
the map. Small maps take as long as reading their weights, so what nobody reads is left out.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from activsparse.engine.graph import Graph, Node

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


def _taps(graph: Graph, node: Node) -> npt.NDArray[np.bool_]:
    """(KH, KW): which taps meet an input that may be other than zero, for a computed position."""
    *_, kernel_h, kernel_w = node.arrays["weight"].shape
    height, width = graph.shape(node.inputs[0])[2:]
    live = node.arrays.get("input_mask", np.ones((height, width), np.uint8)).astype(bool)
    y, x = np.nonzero(_computed(node, graph.shape(node.output)[2:]))
    a = node.attributes
    used = np.zeros((kernel_h, kernel_w), dtype=bool)
    for ky, kx in np.ndindex(kernel_h, kernel_w):
        at_y = y * a.get("stride_h", 1) - a.get("pad_top", 0) + ky * a.get("dilation_h", 1)
        at_x = x * a.get("stride_w", 1) - a.get("pad_left", 0) + kx * a.get("dilation_w", 1)
        inside = (at_y >= 0) & (at_y < height) & (at_x >= 0) & (at_x < width)
        used[ky, kx] = live[at_y[inside], at_x[inside]].any()
    return used


def _computed(node: Node, size: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    """(H, W): positions of the result that its values depend on the input at."""
    if "source" in node.arrays:
        computed = np.zeros(size[0] * size[1], dtype=bool)
        source = node.arrays["source"]
        computed[source[source >= 0]] = True
        return computed.reshape(size)
    return node.arrays.get("mask", np.ones(size, np.uint8)).astype(bool)
