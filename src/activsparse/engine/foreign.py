"""Splitting a model into parts this engine runs and parts another one does."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from activsparse.engine.cut import cut
from activsparse.engine.cut_bytes import is_pair, keep_pairs, without_constant_nodes
from activsparse.engine.graph import Graph, Node, NodeError, Nodes
from activsparse.engine.passes.convert import can_convert
from activsparse.engine.passes.match_fill import match_fill
from activsparse.errors import ActivsparseError

if TYPE_CHECKING:
    import onnx

    from activsparse.engine.plan import Plan

__all__ = ["compile_parts", "model_of"]

_log = logging.getLogger(__name__)


def compile_parts(
    graph: Graph,
    compile_part: Callable[[Graph], Plan],
    ours: Callable[[Graph], bool] = lambda part: True,
    typed: bool = True,
) -> list[tuple[Plan | None, Graph]]:
    """Cut a graph whose shapes are inferred into sub-graphs, to be run in this order.

    What a node is worth to this engine shows with its neighbours only, so each part is compiled,
    and a node that stops one is handed over until all the rest compiles.

    Args:
        graph: ONNX nodes; quantised operators spelled out (`expand_qoperators`).
        compile_part: makes the plan of a sub-graph.
        ours: whether a sub-graph is worth a plan; else it is handed over as it is.
        typed: whether what passes from one to the next is converted, so that plans may read and
            give integers and truth values.

    Returns:
        The plan of the sub-graph, None where another engine shall run it, and the sub-graph. Values
        that pass from one to the next keep their names.
    """
    handed_over: set[str] = set()
    plans: dict[tuple[str, ...], Plan] = {}  # by the part's outputs
    graph, apart = without_constant_nodes(graph)
    while True:
        parts: list[tuple[Plan | None, Graph]] = []
        for native, part in _split(graph, apart, handed_over, typed):
            plan = None
            if native and ours(part):
                key = tuple(name for node in part.nodes for name in node.outputs)
                try:
                    plan = plans[key] = plans.get(key) or compile_part(part)
                except ActivsparseError as error:
                    _log.debug("handed over: %s", error)
                    handed_over.update(_stopped_by(error, part, apart))
                    break
            parts.append((plan, part))
        else:
            return parts


def _stopped_by(error: ActivsparseError, part: Graph, apart: Collection[str]) -> list[str]:
    """Outputs of the ONNX nodes an error is about; of all of a part's where it names none of it."""
    nodes = [node for node in part.nodes if node.outputs[0] not in apart]
    stopped = []
    if isinstance(error, NodeError):
        wrong = error.node
        stopped = [
            node
            for node in nodes
            if set(node.outputs) & set(wrong.outputs) or node.name == wrong.name
        ]
    return [name for node in stopped or nodes for name in node.outputs if name]


def _split(
    graph: Graph, apart: Mapping[str, Node], handed_over: Collection[str], typed: bool
) -> list[tuple[bool, Graph]]:
    try:
        left = {node.outputs for node in match_fill(graph).nodes if node.op == "Gather"}
    except ActivsparseError:
        left = {node.outputs for node in graph.nodes}
    native = [
        not any(name in handed_over for name in node.outputs)
        and ((node.op == "Gather" and node.outputs not in left) or _is_native(graph, node, typed))
        for node in graph.nodes
    ]
    native = cut(graph, keep_pairs(graph, native, typed))
    # Even levels are ours, odd ones are not; a node lies on the first level behind its inputs'.
    levels: dict[int, list[Node]] = {}
    level_of: dict[str, int] = {}
    for node, ours in zip(graph.nodes, native, strict=True):
        level = max((level_of.get(name, 0) for name in node.inputs), default=0)
        level += level % 2 == ours
        levels.setdefault(level, []).append(node)
        level_of.update(dict.fromkeys(node.outputs, level))
    return [(level % 2 == 0, _part(graph, levels[level], apart)) for level in sorted(levels)]


def _is_native(graph: Graph, node: Node, typed: bool) -> bool:
    values = [name for name in (*node.inputs, *node.outputs) if name not in graph.constants]
    if is_pair(graph, node):
        return True
    if not typed and any(name in graph.dtypes for name in values):
        return False
    return can_convert(graph, node)


def _part(graph: Graph, chosen: list[Node], apart: Mapping[str, Node]) -> Graph:
    weights: dict[tuple[str, ...], Node] = {}

    def add(name: str) -> None:
        node = apart.get(name)
        if node is not None and node.outputs not in weights:
            for source in node.inputs:
                add(source)
            weights[node.outputs] = node

    for name in (name for node in chosen for name in node.inputs):
        add(name)
    nodes = Nodes([*weights.values(), *chosen])
    written = {name for node in nodes for name in node.outputs if name}
    read = dict.fromkeys(name for node in nodes for name in node.inputs if name)
    results = [name for node in chosen for name in node.outputs if name]
    values = [*read, *(name for name in written if name not in read)]
    constants = {name: graph.constants[name] for name in read if name in graph.constants}
    return replace(
        graph,
        nodes=nodes,
        shapes={name: graph.shapes[name] for name in values if name in graph.shapes},
        dtypes={name: graph.dtypes[name] for name in values if name in graph.dtypes},
        inputs=[name for name in read if name not in written and name not in graph.constants],
        outputs=sorted(name for name in results if graph.uses(name) > nodes.reads(name)),
        constants={name: value for name, value in constants.items() if name not in apart},
    )


def model_of(graph: Graph) -> onnx.ModelProto:
    """Return a graph of ONNX nodes as an ONNX model."""
    import onnx
    from onnx import helper

    from activsparse.engine.passes.proto import node_proto

    def described(name: str) -> onnx.ValueInfoProto:
        if name in graph.outputs and name not in graph.shapes and name not in graph.dtypes:
            return helper.make_empty_tensor_value_info(name)  # nobody knows it before the run
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
    versions = {"": graph.opset, **graph.domains}
    opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    return helper.make_model(proto, opset_imports=opsets, ir_version=9)
