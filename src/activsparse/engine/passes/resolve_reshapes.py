"""Reshapes: pointwise functions move before them, flattening before a matrix permutes its columns.

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
    """Let functions of each element act before reshapes and transpositions: there they fuse.

    Transpositions that undo one another meet on the way, and are dropped.
    """
    graph = _without_round_trips(graph)
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
        else:
            earlier = _before(graph, first, second)
            if earlier is None:
                continue
            value = f"{second.output}.before_{first.op}"
            graph.shapes[value] = graph.shape(first.inputs[0])
            earlier = replace(earlier, inputs=first.inputs, outputs=(value,))
            moved = [earlier, replace(first, inputs=(value,), outputs=second.outputs)]
        graph.nodes.replace(second, *moved)
        graph.nodes.replace(first)
        waiting.append(moved[-1])
        before = graph.producer(first.inputs[0])
        if before is not None:  # what acts earlier now may pass what comes before as well
            waiting.append(before)
    return _without_round_trips(graph)


def _before(graph: Graph, first: Node, second: Node) -> Node | None:
    """What does to the source of a reshape or transposition what `second` does to its result."""
    if second.op == "activate":
        return second
    if second.op not in ("map", "scale_shift"):
        return None
    shape, rank = graph.shape(first.inputs[0]), len(graph.shape(first.output))
    tables = second.arrays
    if second.op == "scale_shift":
        tables = {name: t.reshape(1, -1, *[1] * (rank - 2)) for name, t in tables.items()}
    if first.op == "transpose":
        order = np.argsort(first.attributes["order"])
        tables = {name: np.ascontiguousarray(t.transpose(order)) for name, t in tables.items()}
    else:
        per_channel = all(t.ndim > 1 and t.size in (1, t.shape[1]) for t in tables.values())
        if shape[:2] != graph.shape(first.output)[:2] or not per_channel:
            return None
        tables = {name: t.reshape(1, -1, *[1] * (len(shape) - 2)) for name, t in tables.items()}
    if len(shape) in (2, 4) and all(t.size in (1, t.shape[1]) for t in tables.values()):
        tables = {
            name: np.ascontiguousarray(np.broadcast_to(t.reshape(-1), shape[1:2]))
            for name, t in tables.items()
        }
        return replace(second, op="scale_shift", arrays=tables)
    return replace(second, op="map", arrays=tables)


def _without_round_trips(graph: Graph) -> Graph:
    """Join transpositions of transpositions; drop what leaves every element where it is."""
    graph = graph.copy()
    for node in graph.nodes:
        if node.op not in ("reshape", "transpose"):
            continue
        first = graph.producer(node.inputs[0])
        if first is not None and first.op == node.op:
            joined = replace(node, inputs=first.inputs)
            if node.op == "transpose":
                order = [first.attributes["order"][axis] for axis in node.attributes["order"]]
                joined = joined.with_attributes(order=tuple(order))
            graph.nodes.replace(node, joined)
            if not graph.uses(first.output):
                graph.nodes.replace(first)
            node = joined
        same = graph.shape(node.inputs[0]) == graph.shape(node.output)
        if node.op == "transpose":
            same = list(node.attributes["order"]) == sorted(node.attributes["order"])
        if same and node.output not in graph.outputs:
            for reader in graph.readers(node.output):
                inputs = (node.inputs[0] if x == node.output else x for x in reader.inputs)
                graph.nodes.replace(reader, replace(reader, inputs=tuple(inputs)))
            graph.nodes.replace(node)
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
