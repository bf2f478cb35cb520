"""Convolutions with several outputs for each input channel as depthwise ones of repeated channels.

Outputs 0 and 1 of channel 0, 0 and 1 of channel 1 become 0 of all channels, then 1 of all, which is
a depthwise convolution of the input twice side by side. Whoever reads them reads them in that order
through its weights. A product of matrices would use a vector for the few outputs of a channel:
FastViT's 7x7 ones, of two outputs, take a tenth of the time so.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from activsparse.engine.graph import Array, Graph, Node

__all__ = ["repeat_channels"]

# Copies of the input cost little next to kernels with many taps, vectors of so few outputs much.
_MOST_OUTPUTS = 4


def repeat_channels(graph: Graph) -> Graph:
    """Rewrite those that only one convolution, without groups, reads."""
    graph = graph.copy()
    for node in [node for node in graph.nodes if node.op == "conv" and len(node.inputs) == 1]:
        value = node.inputs[0]
        n, channels, *size = graph.shape(value)
        outputs = graph.shape(node.output)[1] // channels
        group = node.attributes.get("group", 1)
        reader = graph.only_consumer(node.output)
        if not 1 < outputs <= _MOST_OUTPUTS or group != channels or value in graph.inputs:
            continue
        if reader is None or not _reads(reader, node.output):
            continue
        order = np.arange(channels * outputs).reshape(channels, outputs).T.ravel()
        repeated = f"{value} for {node.output}"
        graph.shapes[repeated] = (n, channels * outputs, *size)
        arrays = {name: _ordered(name, array, order) for name, array in node.arrays.items()}
        depthwise = replace(node, inputs=(repeated,), arrays=arrays)
        graph.nodes.replace(
            node,
            Node("concat", node.name, (value,) * outputs, (repeated,), {"axis": 1}),
            depthwise.with_attributes(group=channels * outputs),
        )
        weight = np.ascontiguousarray(reader.arrays["weight"][:, order])
        graph.nodes.replace(reader, reader.with_arrays(weight=weight))
    return graph


def _reads(node: Node, value: str) -> bool:
    return node.op == "conv" and node.inputs[0] == value and node.attributes.get("group", 1) == 1


def _ordered(name: str, array: Array, order: Array) -> Array:
    if name not in ("weight", "bias", "skipped_value"):
        return array
    return np.ascontiguousarray(array[order])
