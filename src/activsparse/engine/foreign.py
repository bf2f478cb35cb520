"""Splitting a model into parts this engine runs and parts another one does."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from activsparse.engine.graph import Graph, Node
from activsparse.engine.passes.convert import can_convert
from activsparse.engine.passes.match_fill import match_fill

if TYPE_CHECKING:
    import onnx

__all__ = ["model_of", "split"]


def split(graph: Graph) -> list[tuple[bool, Graph]]:
    """Cut a graph whose shapes are inferred into sub-graphs, to be run in this order.

    Returns:
        Whether this engine runs the sub-graph, and the sub-graph. Values that pass from one to the
        next keep their names.
    """
    left = {node.outputs for node in match_fill(graph).nodes if node.op == "Gather"}
    native = [
        (node.op == "Gather" and node.outputs not in left) or _is_native(graph, node)
        for node in graph.nodes
    ]
    # Even levels are ours, odd ones are not; a node lies on the first level behind its inputs'.
    levels: list[int] = []
    level_of: dict[str, int] = {}
    for node, ours in zip(graph.nodes, native, strict=True):
        level = max((level_of.get(name, 0) for name in node.inputs), default=0)
        level += level % 2 == ours
        levels.append(level)
        level_of.update(dict.fromkeys(node.outputs, level))
    return [
        (
            level % 2 == 0,
            _part(graph, [n for n, at in zip(graph.nodes, levels, strict=True) if at == level]),
        )
        for level in sorted(set(levels))
    ]


def _is_native(graph: Graph, node: Node) -> bool:
    values = [name for name in (*node.inputs, *node.outputs) if name not in graph.constants]
    if any(name in graph.dtypes for name in values if name):
        return False  # integers and booleans are not ours
    return can_convert(graph, node)


def _part(graph: Graph, nodes: list[Node]) -> Graph:
    written = {name for node in nodes for name in node.outputs if name}
    read = dict.fromkeys(name for node in nodes for name in node.inputs if name)
    elsewhere = {name for node in graph.nodes if node not in nodes for name in node.inputs}
    outputs = [name for name in written if name in elsewhere or name in graph.outputs]
    return replace(
        graph.copy(),
        nodes=nodes,
        inputs=[name for name in read if name not in written and name not in graph.constants],
        outputs=sorted(outputs),
        constants={name: graph.constants[name] for name in read if name in graph.constants},
    )


def model_of(graph: Graph) -> onnx.ModelProto:
    """Return a graph of ONNX nodes as an ONNX model."""
    import onnx
    from onnx import helper

    from activsparse.engine.passes.proto import node_proto

    def described(name: str) -> onnx.ValueInfoProto:
        dtype = helper.np_dtype_to_tensor_dtype(graph.dtypes.get(name, np.dtype(np.float32)))
        return helper.make_tensor_value_info(name, dtype, graph.shapes.get(name))

    constants = [
        onnx.numpy_helper.from_array(value, name) for name, value in graph.constants.items()
    ]
    proto = helper.make_graph(
        [node_proto(node) for node in graph.nodes],
        "part",
        [described(name) for name in graph.inputs],
        [described(name) for name in graph.outputs],
        constants,
    )
    opsets = [helper.make_opsetid("", graph.opset)]
    return helper.make_model(proto, opset_imports=opsets, ir_version=9)
