"""Drop nodes and constants nothing reads."""

from __future__ import annotations

from activsparse.engine.graph import Graph, Nodes

__all__ = ["clean"]


def clean(graph: Graph) -> Graph:
    """Keep what the graph's outputs depend on."""
    graph = graph.copy()
    live = set(graph.outputs)
    kept = []
    for node in reversed(graph.nodes):
        if live.intersection(node.outputs):
            kept.append(node)
            live.update(node.inputs)
    graph.nodes = Nodes(reversed(kept))
    graph.constants = {name: value for name, value in graph.constants.items() if name in live}
    return graph
