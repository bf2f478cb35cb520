"""Norms, biases and activations of an interleaved image, before the phases are interleaved.

What treats every position of a channel alike can treat the phases of a ConvTranspose
(convert/transposed.py) as well, and there it becomes part of the convolutions that compute them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from activsparse.engine.graph import Graph, Node

__all__ = ["lift_phases"]

_BY_CHANNEL = ("activate", "prelu", "scale_shift")


def lift_phases(graph: Graph) -> Graph:
    """Move what only reads an `interleave`, position by position, to the convolutions before it."""
    graph = graph.copy()
    for whole in graph.nodes:
        if whole.op != "interleave":
            continue
        sources = _sources(graph, whole)
        image = whole
        while sources and (reader := graph.only_consumer(image.output)) is not None:
            if reader.op not in _BY_CHANNEL:
                break
            image, sources = _lift(graph, image, reader, sources)
    return graph


def _sources(graph: Graph, whole: Node) -> list[str]:
    """The convolutions whose channels are the phases, and nothing else; none if others are."""
    found: dict[str, list[Node]] = {}
    for part in whole.inputs:
        node = graph.producer(part)
        if node is None or graph.only_consumer(part) is None:
            return []
        if node.op == "slice" and node.attributes["axis"] == 1:
            found.setdefault(node.inputs[0], []).append(node)
        else:
            found.setdefault(part, [])
    for source, slices in found.items():
        node = graph.producer(source)
        if node is None or node.op != "conv" or (slices and graph.uses(source) != len(slices)):
            return []
    return list(found)


def _lift(graph: Graph, whole: Node, reader: Node, sources: list[str]) -> tuple[Node, list[str]]:
    """Apply `reader` to every source; the interleaved image takes the name of its result."""
    channels = graph.shape(whole.output)[1]
    renamed: dict[str, str] = {}
    for source in sources:
        name = renamed[source] = f"{reader.output} of {source}"
        graph.shapes[name] = graph.shape(source)
        phases = graph.shape(source)[1] // channels
        arrays = {key: np.tile(array, phases) for key, array in reader.arrays.items()}
        lifted = replace(reader, inputs=(source,), outputs=(name,), arrays=arrays)
        for part in graph.readers(source):
            if part is not whole:
                graph.nodes.replace(part, replace(part, inputs=(name,)))
        (node,) = filter(None, [graph.producer(source)])
        graph.nodes.replace(node, node, lifted)
    parts = tuple(renamed.get(part, part) for part in whole.inputs)
    moved = replace(whole, inputs=parts, outputs=reader.outputs)
    graph.nodes.replace(whole, moved)
    graph.nodes.replace(reader)
    return moved, list(renamed.values())
