"""Reshapes: most disappear, flattening before a matrix becomes a permutation of its columns.

In memory an image is (H, W, C), so flattening it in ONNX's order (C, H, W) would have to move every
value. Moving the columns of the weight matrix instead costs nothing at run time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from activsparse.engine.graph import Graph, Node
from activsparse.errors import ActivsparseError

__all__ = ["resolve_reshapes"]


def resolve_reshapes(graph: Graph) -> Graph:
    """Leave only reshapes that the lowering turns into views.

    These are reshapes of (N, C, 1, 1) to (N, C) and back, and `flatten`: (N, C, H, W) to (N,
    H*W*C), in the order of the memory. Reshapes at the end of the graph only change the shape of
    the result and are dropped as well.

    Raises:
        ActivsparseError: a reshape that would have to move values at run time.
    """
    graph = _delay(graph)
    for node in list(graph.nodes):
        if node.op == "reshape" and not _is_view(graph, node):
            _resolve(graph, node)
    return graph


def _is_view(graph: Graph, node: Node) -> bool:
    before, after = graph.shape(node.inputs[0]), graph.shape(node.output)
    return _pixels(before) == _pixels(after) is not None


def _pixels(shape: tuple[int, ...]) -> tuple[int, int, int, int] | None:
    """The shape as (N, C, H, W), where it has one of the two ranks of the engine."""
    if len(shape) == 2:
        return shape[0], shape[1], 1, 1
    return (shape[0], shape[1], shape[2], shape[3]) if len(shape) == 4 else None


def _delay(graph: Graph) -> Graph:
    """Let activations and other reshapes act before a reshape, where they can be fused."""
    graph = graph.copy()
    position = 0
    while position < len(graph.nodes):
        first = graph.nodes[position]
        second = graph.only_consumer(first.output) if first.op == "reshape" else None
        if second is None or second.op not in ("reshape", "activate"):
            position += 1
            continue
        place = next(i for i, node in enumerate(graph.nodes) if node is second)
        if second.op == "reshape":
            graph.nodes[place] = replace(second, inputs=first.inputs)
        else:
            value = f"{second.output}.before_reshape"
            graph.shapes[value] = graph.shape(first.inputs[0])
            graph.nodes[place] = replace(first, inputs=(value,), outputs=second.outputs)
            activate = replace(second, inputs=first.inputs, outputs=(value,))
            graph.nodes.insert(place, activate)
        del graph.nodes[position]
    return graph


def _resolve(graph: Graph, node: Node) -> None:
    x, y = node.inputs[0], node.output
    readers = [n for n in graph.nodes if y in n.inputs]
    before, after = graph.shape(x), graph.shape(y)
    flattens = len(before) == 4 and len(after) == 2 and before[0] == after[0]
    if not readers:
        return  # an output: the values leave in (N, C, H, W) order anyway
    if not flattens or any(reader.op != "gemm" for reader in readers):
        reader = next((r for r in readers if r.op != "gemm"), readers[0])
        raise ActivsparseError(
            f"{graph.name}: {node.title} from {before} to {after}, read by {reader.title}, "
            "would move values at run time; only flattening before fully connected layers and "
            "dropping axes of size one are supported"
        )
    _, c, h, w = before
    flat = f"{y}.nhwc"
    graph.shapes[flat] = after
    for reader in readers:
        weight = reader.arrays["weight"]
        moved = weight.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(weight.shape)
        merged = replace(reader, inputs=(flat,)).with_arrays(weight=np.ascontiguousarray(moved))
        graph.nodes = [merged if n is reader else n for n in graph.nodes]
    flatten = Node("flatten", node.name, (x,), (flat,))
    place = next(i for i, n in enumerate(graph.nodes) if n is node)
    if y in graph.outputs:
        graph.nodes.insert(place, flatten)
    else:
        graph.nodes[place] = flatten
