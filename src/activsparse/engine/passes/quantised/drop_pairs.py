"""Pairs that change nothing: what lies on the steps of a scale and is moved lies there still."""

from __future__ import annotations

from dataclasses import replace

from activsparse.engine.graph import Graph, Scale

__all__ = ["drop_pairs"]

# Their result's elements are elements of the first input.
_MOVES = (
    *("reshape", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze"),
    *("Transpose", "Unsqueeze", "slice"),
)


def drop_pairs(graph: Graph) -> Graph:
    """Let readers of a value that was rounded once more to the same steps read it before that.

    Detectors' heads move their values about in float32, and quantisers put a pair behind every
    move: rounding (q - zero) * scale to steps of `scale` gives q again.
    """
    graph = graph.copy()
    for node in list(graph.nodes):
        if node.op != "dequantise" or node.output in graph.outputs:
            continue
        quantise = graph.producer(node.inputs[0])
        if quantise is None or quantise.op != "quantise":
            continue
        before, scale = quantise.inputs[0], graph.scales[node.inputs[0]]
        if graph.shape(before) != graph.shape(node.output) or _steps(graph, before) != scale:
            continue
        for reader in graph.readers(node.output):
            names = (before if name == node.output else name for name in reader.inputs)
            graph.nodes.replace(reader, replace(reader, inputs=tuple(names)))
    return graph


def _steps(graph: Graph, value: str) -> Scale | None:
    """The scale on whose steps a value in float32 lies, as far as moves tell."""
    node = graph.producer(value)
    while node is not None and node.op in _MOVES:
        node = graph.producer(node.inputs[0])
    return graph.scales[node.inputs[0]] if node is not None and node.op == "dequantise" else None
