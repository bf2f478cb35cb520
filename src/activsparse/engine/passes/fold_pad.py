"""Explicit zero padding into the convolution that reads it."""

from __future__ import annotations

from dataclasses import replace

from activsparse.engine.graph import Graph, Node
from activsparse.engine.passes.fuse import fuse_pairs

__all__ = ["fold_pad"]

_SIDES = ("pad_top", "pad_left", "pad_bottom", "pad_right")


def fold_pad(graph: Graph) -> Graph:
    """Add the pads of every `pad` to those of the conv after it."""
    return fuse_pairs(graph, _fold)


def _fold(graph: Graph, first: Node, second: Node) -> Node | None:
    if first.op != "pad" or second.op != "conv" or second.inputs[0] != first.output:
        return None
    pads = {side: second.attributes[side] + first.attributes[side] for side in _SIDES}
    return replace(second, inputs=(first.inputs[0], *second.inputs[1:])).with_attributes(**pads)
