"""Activations into the operator before them."""

from __future__ import annotations

from dataclasses import replace

from activsparse.engine.graph import Graph, Node
from activsparse.engine.passes.activations import activation_of, has_activation
from activsparse.engine.passes.fuse import fuse_pairs

__all__ = ["fuse_activation"]

# Operators with an epilogue, docs/operators.md.
_WITH_EPILOGUE = frozenset(
    {
        "add",
        "average_pool",
        "combine",
        "conv",
        "gather_positions",
        "gemm",
        "global_average_pool",
        "map",
        "mask_multiply",
        "matmul",
        "max_pool",
        "mul",
        "normalize",
        "reduce",
        "resize_linear",
        "resize_positions",
        "scale_shift",
    }
)


def fuse_activation(graph: Graph) -> Graph:
    """Let every operator with an epilogue apply the `activate` that follows it."""
    return fuse_pairs(graph, _fuse)


def _fuse(graph: Graph, first: Node, second: Node) -> Node | None:
    if second.op != "activate" or first.op not in _WITH_EPILOGUE or has_activation(first):
        return None
    return replace(first, outputs=second.outputs).with_attributes(**activation_of(second))
