"""A 6x6 convolution of stride 2 on the network's input as a 3x3 one on four times the channels.

Every 2x2 square of input pixels becomes one position. The products stay the same, but the vectors
over input channels get fuller, and Winograd's algorithms apply.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from activsparse.engine.graph import Graph, Node

__all__ = ["unfold_stem"]

_MOST_CHANNELS = 4


def unfold_stem(graph: Graph) -> Graph:
    """Rewrite such convolutions, as YOLOv5 begins with, where the sizes are even."""
    graph = graph.copy()
    for node in list(graph.nodes):
        if node.inputs and node.inputs[0] in graph.inputs and _fits(graph, node):
            _rewrite(graph, node)
    return graph


def _fits(graph: Graph, node: Node) -> bool:
    if node.op != "conv" or node.arrays["weight"].shape[2:] != (6, 6):
        return False
    shape, a = graph.shape(node.inputs[0]), node.attributes
    twos = ("stride_h", "stride_w", "pad_top", "pad_left", "pad_bottom", "pad_right")
    ones = ("dilation_h", "dilation_w", "group")
    return (
        shape[1] <= _MOST_CHANNELS
        and shape[2] % 2 == shape[3] % 2 == 0
        and all(a.get(name) == 2 for name in twos)
        and all(a.get(name, 1) == 1 for name in ones)
    )


def _rewrite(graph: Graph, node: Node) -> None:
    x = node.inputs[0]
    n, c, h, w = graph.shape(x)
    squares, planes, deep = (f"{x}.{name}" for name in ("squares", "planes", "deep"))
    graph.shapes[squares] = (n, c, h // 2, 2, w // 2, 2)
    graph.shapes[planes] = (n, c, 2, 2, h // 2, w // 2)
    graph.shapes[deep] = (n, 4 * c, h // 2, w // 2)
    order = (0, 1, 3, 5, 2, 4)
    views = [
        Node("reshape", f"{node.name} squares", (x,), (squares,)),
        Node("transpose", f"{node.name} planes", (squares,), (planes,), {"order": order}),
        Node("reshape", f"{node.name} input", (planes,), (deep,)),
    ]
    weight = node.arrays["weight"]
    out = weight.shape[0]
    weight = weight.reshape(out, c, 3, 2, 3, 2).transpose(order).reshape(out, 4 * c, 3, 3)
    pads = dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), 1)
    conv = replace(node, inputs=(deep, *node.inputs[1:])).with_arrays(
        weight=np.ascontiguousarray(weight)
    )
    conv = conv.with_attributes(stride_h=1, stride_w=1, **pads)
    place = next(i for i, other in enumerate(graph.nodes) if other is node)
    known = any(other.output == deep for other in graph.nodes)
    graph.nodes[place : place + 1] = [conv] if known else [*views, conv]
