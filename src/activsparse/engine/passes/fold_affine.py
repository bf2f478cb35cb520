"""Chains of additions of and multiplications by constants into one `map`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from activsparse.engine.graph import Array, Graph, Node
from activsparse.engine.passes.activations import activation_of, has_activation
from activsparse.engine.passes.fuse import fuse_pairs

__all__ = ["fold_affine"]


def fold_affine(graph: Graph) -> Graph:
    """Merge every `map` that directly follows a `map` or `scale_shift`, and the other way round."""
    return fuse_pairs(graph, _fold)


def _fold(graph: Graph, first: Node, second: Node) -> Node | None:
    kinds = ("map", "scale_shift")
    if first.op not in kinds or second.op not in kinds or has_activation(first):
        return None
    if first.op == second.op == "scale_shift":
        return None  # `fold_scale` keeps these per channel
    rank = len(graph.shape(second.output))
    scale1, shift1 = (_table(first, name, rank) for name in ("scale", "shift"))
    scale2, shift2 = (_table(second, name, rank) for name in ("scale", "shift"))
    arrays = {
        "scale": np.ascontiguousarray(scale1 * scale2, dtype=np.float32),
        "shift": np.ascontiguousarray(shift1 * scale2 + shift2, dtype=np.float32),
    }
    merged = replace(first, op="map", outputs=second.outputs, arrays=arrays)
    return merged.with_attributes(**activation_of(second))


def _table(node: Node, name: str, rank: int) -> Array:
    array = node.arrays[name].astype(np.float64)
    return array if node.op == "map" else array.reshape(1, -1, *[1] * (rank - 2))
