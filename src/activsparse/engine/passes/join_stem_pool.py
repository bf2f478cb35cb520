"""A network's first convolution and the max pooling after it into one operator.

What lies between them is the largest tensor of most networks; joined, it is pooled row by row
while it is in cache.
"""

from __future__ import annotations

from collections.abc import Callable

from activsparse.engine.graph import Graph, Node
from activsparse.engine.passes.fuse import fuse_pairs

__all__ = ["join_stem_pool"]

_PLANES = ("mask", "source")


def join_stem_pool(graph: Graph, in_bands: Callable[[Node], bool]) -> Graph:
    """Join them.

    Args:
        graph: engine nodes.
        in_bands: asked about a first convolution whether its algorithm computes rows in bands.
    """

    def fuse(graph: Graph, first: Node, second: Node) -> Node | None:
        if first.op != "conv" or second.op != "max_pool" or len(first.inputs) != 1:
            return None
        gaps = any(second.attributes.get(f"dilation_{axis}", 1) != 1 for axis in "hw")
        masked = any(name in first.arrays for name in _PLANES)
        alone = first.inputs[0] in graph.inputs and graph.uses(first.inputs[0]) == 1
        if gaps or masked or not alone or not in_bands(first):
            return None
        pool = {f"pool.{key}": value for key, value in second.attributes.items()}
        return Node(
            "conv_max_pool",
            first.name,
            first.inputs,
            second.outputs,
            {**first.attributes, **pool},
            first.arrays,
        )

    return fuse_pairs(graph, fuse)
