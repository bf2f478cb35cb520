"""Means over neighbouring channels written as a 3-d pooling, as torch spells its response norm.

`nn.LocalResponseNorm` views the squares (N, C, H, W) as (N, 1, C, H, W), pads their channels with
zeros and takes the mean of windows of `size` x 1 x 1. What follows is arithmetic.
"""

from __future__ import annotations

import math

import numpy as np

from activsparse.engine.graph import Graph, Node
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.norm import mean_of_channels
from activsparse.engine.passes.convert.source import Source

__all__ = ["match_response"]


def match_response(graph: Graph) -> Graph:
    """Replace them by a pooling along the channels."""
    graph = graph.copy()
    for node in list(graph.nodes):
        if node.op in ("Reshape", "Squeeze"):
            _match(graph, node)
    return graph


def _match(graph: Graph, node: Node) -> None:
    """`node` takes what was pooled back to the shape of an image."""
    pool = graph.producer(node.inputs[0])
    size = _window(pool)
    if pool is None or not size:
        return
    own = pool.attributes.get("pads", (0,) * 6)
    before, columns = own[0], pool.inputs[0]
    if any(own) and not pool.attributes.get("count_include_pad", 0):
        return
    pad = graph.producer(columns)
    if pad is not None and pad.op == "Pad":
        amounts = _zeros_before(graph, pad)
        if amounts is None:
            return
        before, columns = before + amounts, pad.inputs[0]
    view = graph.producer(columns)
    if view is None or view.op not in ("Reshape", "Unsqueeze"):
        return
    x = view.inputs[0]
    shapes = [graph.shapes.get(value, ()) for value in (x, columns, node.outputs[0])]
    image, cut, back = shapes
    if len(image) != 4 or len(cut) != 5 or back != image or 0 in image:
        return
    # Only channels are padded, and windows of all of them taken, if the sizes come out even.
    if cut[:3] != (image[0], 1, image[1]) or math.prod(cut[3:]) != math.prod(image[2:]):
        return
    if graph.shapes.get(pool.outputs[0]) != cut or not 0 <= before < size:
        return
    chain = Chain(Source(graph, node))
    graph.nodes.replace(node, *chain.done(mean_of_channels(chain, x, size, before)))


def _window(node: Node | None) -> int:
    """How many channels a pooling takes the mean of; 0 where it is of another kind."""
    if node is None or node.op != "AveragePool":
        return 0
    kernel = tuple(node.attributes.get("kernel_shape", ()))
    ones = [tuple(node.attributes.get(name, (1, 1, 1))) for name in ("strides", "dilations")]
    plain = node.attributes.get("auto_pad", "NOTSET") == "NOTSET" and ones == [(1, 1, 1)] * 2
    pads = node.attributes.get("pads", (0,) * 6)
    along = plain and len(kernel) == 3 and kernel[1:] == (1, 1) and len(pads) == 6
    if not along or any(pads[axis] for axis in (1, 2, 4, 5)):
        return 0
    return int(kernel[0])


def _zeros_before(graph: Graph, pad: Node) -> int | None:
    """How many zeros come before the channels; None where it is another padding."""
    given = [graph.constants.get(name) if name else None for name in pad.inputs[1:]]
    amounts = given[0] if given else pad.attributes.get("pads")
    value = given[1] if len(given) > 1 else pad.attributes.get("value", 0.0)
    named = [bool(name) for name in pad.inputs[1:]]
    if pad.attributes.get("mode", "constant") != "constant" or amounts is None:
        return None
    if len(named) > 1 and named[1] and value is None:  # known at run time only
        return None
    if value is not None and np.any(np.asarray(value) != 0):
        return None
    if len(named) > 2 and named[2]:
        axes = given[2]
        if axes is None or np.reshape(axes, -1).tolist() not in ([2], [-3]):
            return None
        amounts = [0, 0, amounts[0], 0, 0, 0, 0, amounts[1], 0, 0]
    before, behind = np.reshape(np.asarray(amounts), (2, -1)).tolist()
    others = [n for side in (before, behind) for axis, n in enumerate(side) if axis != 2]
    if len(before) != 5 or any(others) or min(before[2], behind[2]) < 0:
        return None
    return int(before[2])
