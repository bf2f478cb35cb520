"""Fill `nearest` in its ONNX form: Reshape to (N, C, H*W), Gather along positions, Reshape back."""

from __future__ import annotations

import math

import numpy as np

from activsparse.engine.graph import Graph, Node
from activsparse.errors import ActivsparseError

__all__ = ["match_fill"]


def match_fill(graph: Graph) -> Graph:
    """Turn Reshape-Gather-Reshape into the operator `gather_positions`."""
    graph = graph.copy()
    for node in list(graph.nodes):
        if node.op != "Gather" or node.inputs[1] not in graph.constants:
            continue
        before = graph.producer(node.inputs[0])
        after = graph.only_consumer(node.outputs[0])
        if before is None or after is None or before.op != "Reshape" or after.op != "Reshape":
            continue
        x, y = before.inputs[0], after.outputs[0]
        shape = graph.shape(x)
        if len(shape) != 4 or graph.shape(y) != shape:
            continue
        n, c, h, w = shape
        axis = int(node.attributes.get("axis", 0))
        if graph.shape(node.inputs[0]) != (n, c, h * w) or axis not in (2, -1):
            continue
        source = graph.constants[node.inputs[1]].reshape(-1).astype(np.int64)
        if source.size != h * w or source.min() < -source.size or source.max() >= source.size:
            raise ActivsparseError(
                f"{graph.name}: {node.title} gathers {source.size} positions of a {h}x{w} plane, "
                f"or positions outside it; its index must hold {math.prod((h, w))} valid positions"
            )
        source = np.where(source < 0, source + h * w, source).astype(np.int32)
        merged = Node("gather_positions", node.name, (x,), (y,), arrays={"source": source})
        # Where the first Reshape has other readers it stays, and `clean` drops it otherwise.
        graph.nodes.replace(node)
        graph.nodes.replace(after, merged)
    return graph
