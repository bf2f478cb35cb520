"""Scale and shift per channel into the layers behind them, where none before can take them.

After an activation a factor has no layer to go back into (scaled activations, learnt affine blocks,
norms of sums), but every convolution that reads the result can take it into its weights.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from activsparse.engine.graph import Graph, Node
from activsparse.engine.passes.activations import has_activation

__all__ = ["fold_forward"]


def fold_forward(graph: Graph) -> Graph:
    """Fold every `scale_shift` that only convolutions and matrices read into all of these.

    w * (s * x + t) is (s * w) * x with sum(w * t) more in the bias; beside the image, where the
    convolution reads zeros and not t, only where there is no t.
    """
    graph = graph.copy()
    for node in graph.nodes:
        if node.op != "scale_shift" or has_activation(node) or node.output in graph.outputs:
            continue
        readers = graph.readers(node.output)
        if not readers or not all(_can_take(graph, node, reader) for reader in readers):
            continue
        for reader in readers:
            graph.nodes.replace(reader, _taken(node, reader))
        graph.nodes.replace(node)
    return graph


def _can_take(graph: Graph, node: Node, reader: Node) -> bool:
    if reader.op not in ("conv", "gemm") or reader.inputs.index(node.output) > 0:
        return False
    if node.output in reader.inputs[1:] or len(graph.shape(node.output)) not in (2, 4):
        return False
    pads = [reader.attributes.get(f"pad_{side}", 0) for side in ("top", "left", "bottom", "right")]
    return not any(pads) or not node.arrays["shift"].any()


def _taken(node: Node, reader: Node) -> Node:
    weight = reader.arrays["weight"].astype(np.float64)
    group = reader.attributes.get("group", 1)
    outputs, inputs = weight.shape[:2]
    by_group = weight.reshape(group, outputs // group, inputs, -1)
    scale, shift = (
        node.arrays[name].astype(np.float64).reshape(group, 1, inputs, 1)
        for name in ("scale", "shift")
    )
    more = (by_group * shift).sum(axis=(2, 3)).reshape(-1)
    arrays = {
        **reader.arrays,
        "weight": np.ascontiguousarray((by_group * scale).reshape(weight.shape), np.float32),
        "bias": np.asarray(reader.arrays.get("bias", 0.0) + more, np.float32),
    }
    return replace(reader, inputs=(node.inputs[0], *reader.inputs[1:]), arrays=arrays)
