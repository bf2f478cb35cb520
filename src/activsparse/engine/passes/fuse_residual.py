"""The addition that closes a residual block into one of the convolutions it adds."""

from __future__ import annotations

from dataclasses import replace

from activsparse.engine.graph import Graph, Node
from activsparse.engine.passes.activations import activation_of, has_activation
from activsparse.engine.passes.fuse import fuse_pairs

__all__ = ["fuse_residual"]


def fuse_residual(graph: Graph) -> Graph:
    """Make the other operand of an `add` the residual input of the convolution before it."""
    return fuse_pairs(graph, _fuse)


def _fuse(graph: Graph, first: Node, second: Node) -> Node | None:
    if first.op != "conv" or second.op != "add" or has_activation(first):
        return None
    if len(first.inputs) == 2 or "source" in first.arrays:
        return None
    other = next(name for name in second.inputs if name != first.output)
    if graph.shape(other) != graph.shape(first.output):
        return None
    merged = replace(first, inputs=(first.inputs[0], other), outputs=second.outputs)
    return merged.with_attributes(**activation_of(second))
