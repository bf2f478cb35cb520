"""Reshapes: activations move before them, flattening before a matrix permutes its columns.

In memory an image is (H, W, C), so flattening it in ONNX's order (C, H, W) would have to move every
value. Moving the columns of the weight matrix instead costs nothing at run time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from activsparse.engine.graph import Graph, Node

__all__ = ["resolve_reshapes"]


def resolve_reshapes(graph: Graph) -> Graph:
    """Turn flattening before fully connected layers into `flatten`.

    That is (N, C, H, W) to (N, H*W*C), in the order of the memory. All other reshapes stay: the
    lowering makes views of them, or copies where values must move.
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
    """Let activations and reshapes act before reshapes and transpositions: there they fuse."""
    graph = graph.copy()
    waiting = list(reversed(graph.nodes))
    while waiting:
        first = waiting.pop()
        if first not in graph.nodes:
            continue
        moves = first.op in ("reshape", "transpose")
        second = graph.only_consumer(first.output) if moves else None
        if second is None:
            continue
        if first.op == second.op == "reshape":
            moved = [replace(second, inputs=first.inputs)]
        elif second.op == "activate":
            value = f"{second.output}.before_reshape"
            graph.shapes[value] = graph.shape(first.inputs[0])
            activate = replace(second, inputs=first.inputs, outputs=(value,))
            moved = [activate, replace(first, inputs=(value,), outputs=second.outputs)]
        else:
            continue
        graph.nodes.replace(second, *moved)
        graph.nodes.replace(first)
        waiting.append(moved[-1])
        before = graph.producer(first.inputs[0])
        if before is not None:  # the activation may pass what comes before as well
            waiting.append(before)
    return graph


def _resolve(graph: Graph, node: Node) -> None:
    x, y = node.inputs[0], node.output
    readers = graph.readers(y)
    before, after = graph.shape(x), graph.shape(y)
    flattens = len(before) == 4 and len(after) == 2 and before[0] == after[0]
    if not flattens or not readers or any(reader.op != "gemm" for reader in readers):
        return
    _, c, h, w = before
    flat = f"{y}.nhwc"
    graph.shapes[flat] = after
    for reader in readers:
        weight = reader.arrays["weight"]
        moved = weight.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(weight.shape)
        merged = replace(reader, inputs=(flat,)).with_arrays(weight=np.ascontiguousarray(moved))
        graph.nodes.replace(reader, merged)
    flatten = Node("flatten", node.name, (x,), (flat,))
    # As a result it is needed in ONNX's order, too.
    graph.nodes.replace(node, flatten, *([node] if y in graph.outputs else []))
