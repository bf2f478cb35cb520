"""The step all fusions share: a node and its only reader become one node."""

from __future__ import annotations

from collections.abc import Callable

from activsparse.engine.graph import Graph, Node

__all__ = ["fuse_pairs"]

Rule = Callable[[Graph, Node, Node], Node | None]


def fuse_pairs(graph: Graph, rule: Rule) -> Graph:
    """Merge (producer, only reader of its output) wherever `rule` returns the merged node.

    The merged node takes the reader's place in the order, so that the reader's other operands are
    computed before it.
    """
    graph = graph.copy()
    position = 0
    while position < len(graph.nodes):
        first = graph.nodes[position]
        second = graph.only_consumer(first.outputs[0])
        merged = rule(graph, first, second) if second else None
        if merged is None or second is None:
            position += 1
            continue
        place = next(i for i, node in enumerate(graph.nodes) if node is second)
        graph.nodes[place] = merged
        del graph.nodes[position]
    return graph
