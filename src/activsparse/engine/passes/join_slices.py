"""Concatenations of a value's slices: the value itself stands for all of them.

C2f blocks split a convolution's output, let one half pass bottlenecks, and concatenate both halves
with the results; without this pass, the halves would be copied.
"""

from __future__ import annotations

from dataclasses import replace

from activsparse.engine.graph import Graph, Node

__all__ = ["join_slices"]


def join_slices(graph: Graph) -> Graph:
    """Replace neighbouring slices that make up a whole value among a concatenation's inputs."""
    graph = graph.copy()
    slices = {node.output: node for node in graph.nodes if node.op == "slice"}
    for node in graph.nodes:
        if node.op == "concat":
            joined = replace(node, inputs=_joined(graph, node.inputs, slices))
            graph.nodes.replace(node, joined)
    return graph


def _joined(graph: Graph, names: tuple[str, ...], slices: dict[str, Node]) -> tuple[str, ...]:
    result: list[str] = []
    position = 0
    while position < len(names):
        count = _whole(graph, names[position:], slices)
        result.append(slices[names[position]].inputs[0] if count else names[position])
        position += max(count, 1)
    return tuple(result)


def _whole(graph: Graph, names: tuple[str, ...], slices: dict[str, Node]) -> int:
    """How many of the first names are slices that together are their source, in order."""
    first = slices.get(names[0])
    if first is None:
        return 0
    source = first.inputs[0]
    channels = 0
    for count, name in enumerate(names, start=1):
        node = slices.get(name)
        if node is None or node.inputs[0] != source or node.attributes["axis"] != 1:
            return 0
        if node.attributes["step"] != 1 or node.attributes["start"] != channels:
            return 0
        channels += graph.shape(name)[1]
        if channels == graph.shape(source)[1]:
            return count
    return 0
