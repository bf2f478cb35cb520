"""What is left of quantised values after matching: changes between bytes and float32."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from activsparse.engine.graph import INSTEAD, Graph, Node, NodeError, Scale, Shape
from activsparse.engine.passes.quantised.pairs import DEQUANTISE, QUANTISE, scale_of
from activsparse.errors import Option

__all__ = ["settle_quantised"]


def settle_quantised(graph: Graph) -> Graph:
    """Turn what moves bytes, quantises and dequantises into operators of the engine.

    Raises:
        ActivsparseError: a value of a type or with scales that the engine does not know.
    """
    graph = graph.copy()
    shapes = dict(graph.shapes)  # as the file has them
    for node in list(graph.nodes):
        if node.op in (QUANTISE, DEQUANTISE):
            _convert(graph, node, shapes)
        elif node.op == "gather_positions" and node.inputs[0] in graph.scales:
            zero = {"zero": graph.scales[node.inputs[0]].zero}
            graph.nodes.replace(node, replace(node, op="gather_u8", attributes=zero))
        elif node.op[0].isupper() and any(name in graph.scales for name in node.inputs):
            _in_float(graph, node, shapes)
    for name in graph.outputs:
        if name in graph.scales:
            producer = graph.producer(name)
            raise NodeError(
                producer or Node("", name, (), (name,)),
                f"{graph.name}: output '{name}' is quantised; results are float32: export it with "
                "DequantizeLinear at the end, or use ",
                Option("fallback", "onnxruntime"),
            )
    return graph


def _convert(graph: Graph, node: Node, shapes: dict[str, Shape]) -> None:
    scale = scale_of(graph, node)
    if scale is None:
        raise NodeError(
            node,
            f"{graph.name}: {node.title}: values are quantised to eight bits, with one scale for "
            "all; quantise it so",
            *INSTEAD,
        )
    x, y = node.inputs[0], node.outputs[0]
    change = _to_float if node.op == DEQUANTISE else _to_bytes
    graph.nodes.replace(node, *change(graph, node.name, x, y, scale, shapes[x]))


def _to_float(graph: Graph, name: str, x: str, y: str, scale: Scale, shape: Shape) -> list[Node]:
    """Bytes are images or vectors; what is neither is held as one vector."""
    graph.scales[x] = scale
    attributes = {"a_scale": scale.scale, "a_zero": scale.zero}
    if _pixels(shape) is not None:
        return [Node("dequantise", name, (x,), (y,), attributes)]
    flat = f"{y}.flat"
    graph.shapes[x] = graph.shapes[flat] = (1, math.prod(shape))
    dequantise = Node("dequantise", name, (x,), (flat,), attributes)
    return [dequantise, Node("reshape", name, (flat,), (y,))]


def _to_bytes(graph: Graph, name: str, x: str, y: str, scale: Scale, shape: Shape) -> list[Node]:
    graph.scales[y] = scale
    inverse = float(np.float32(1) / np.float32(scale.scale))
    attributes = {"a_scale": inverse, "zero": scale.zero}
    if _pixels(shape) is not None:
        return [Node("quantise", name, (x,), (y,), attributes)]
    flat = f"{y}.flat"
    graph.shapes[y] = graph.shapes[flat] = (1, math.prod(shape))
    return [Node("reshape", name, (x,), (flat,)), Node("quantise", name, (flat,), (y,), attributes)]


def _in_float(graph: Graph, node: Node, shapes: dict[str, Shape]) -> None:
    """An operator that moves bytes where views of bytes do not reach."""
    x, results = node.inputs[0], [name for name in node.outputs if name]
    scale, before = graph.scales[x], shapes[x]
    if len(results) == 1 and _pixels(before) == _pixels(shapes[results[0]]) is not None:
        graph.nodes.replace(node, Node("reshape", node.name, (x,), (results[0],)))
        return
    inner = f"{x}.of.{node.name}"
    outer = {name: f"{name}.float" for name in results}
    graph.shapes |= {inner: before} | {outer[name]: shapes[name] for name in results}
    outputs = tuple(outer.get(name, "") for name in node.outputs)
    back = [
        step
        for name in results
        for step in _to_bytes(graph, f"{name} to bytes", outer[name], name, scale, shapes[name])
    ]
    graph.nodes.replace(
        node,
        *_to_float(graph, f"{node.name} in", x, inner, scale, before),
        replace(node, inputs=(inner, *node.inputs[1:]), outputs=outputs),
        *back,
    )


def _pixels(shape: tuple[int, ...]) -> tuple[int, ...] | None:
    if len(shape) == 2:
        return (*shape, 1, 1)
    return shape if len(shape) == 4 else None
