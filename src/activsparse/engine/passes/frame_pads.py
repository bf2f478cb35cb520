"""Zero padding that no convolution takes, as a join with constants."""

from __future__ import annotations

from activsparse.engine.graph import Graph
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.padding import SIDES, framed
from activsparse.engine.passes.convert.source import Source

__all__ = ["frame_pads"]


def frame_pads(graph: Graph) -> Graph:
    """Spell out every `pad` that is left."""
    graph = graph.copy()
    for node in graph.nodes:
        if node.op == "pad":
            chain = Chain(Source(graph, node))
            top, left, bottom, right = (node.attributes[side] for side in SIDES)
            before, behind = [0, 0, top, left], [0, 0, bottom, right]
            graph.nodes.replace(
                node, *chain.done(framed(chain, node.inputs[0], before, behind, 0.0))
            )
    return graph
