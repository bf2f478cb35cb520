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
    for first in graph.nodes:
        second = graph.only_consumer(first.outputs[0])
        merged = rule(graph, first, second) if second else None
        if merged is not None and second is not None:
            graph.nodes.replace(second, merged)
            graph.nodes.replace(first)
    return graph
