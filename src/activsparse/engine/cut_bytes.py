"""Quantised values and weights where a network is cut: bytes never pass, weights go along.

A pair of `QuantizeLinear` and `DequantizeLinear` stays together, so that what passes between the
engines is float32. What a file computes of constants, such as weights that it holds quantised, is
in each part that reads it, for a weight that passed would be none.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from activsparse.engine.graph import Array, Graph, Node, Nodes
from activsparse.engine.passes.evaluate import evaluate
from activsparse.engine.passes.infer import constants_of
from activsparse.engine.passes.quantised.pairs import DEQUANTISE, QUANTISE, scale_of
from activsparse.errors import ActivsparseError

__all__ = ["is_pair", "keep_pairs", "without_constant_nodes"]


def without_constant_nodes(graph: Graph) -> tuple[Graph, dict[str, Node]]:
    """Take out the nodes whose inputs are constant.

    Returns:
        The graph with what they compute among its constants, and the nodes by their outputs.
    """
    rest, known = [], replace(graph, constants=dict(graph.constants))
    apart: dict[str, Node] = {}
    for node in graph.nodes:
        present = [name for name in node.inputs if name]
        given = any(name in graph.outputs for name in node.outputs)
        values = None
        if present and not given and all(name in known.constants for name in present):
            values = _values(known, node)
        if values is None:
            rest.append(node)
            continue
        known.constants |= values
        apart |= dict.fromkeys(values, node)
    return replace(known, nodes=Nodes(rest)), apart


def _values(graph: Graph, node: Node) -> dict[str, Array] | None:
    try:
        return evaluate(graph, node) if node.op == DEQUANTISE else constants_of(graph, node)
    except ActivsparseError:
        return None


def is_pair(graph: Graph, node: Node) -> bool:
    """Whether the engine knows a node as one side of a pair."""
    return node.op in (QUANTISE, DEQUANTISE) and scale_of(graph, node) is not None


def keep_pairs(graph: Graph, native: Sequence[bool], typed: bool) -> list[bool]:
    """Hand both sides of a pair over where one of them is.

    Args:
        graph: ONNX nodes in the order of execution.
        native: of each whether this engine can run it.
        typed: whether bytes of others may be dequantised here.
    """
    nodes = list(graph.nodes)
    ours = dict(zip((node.outputs for node in nodes), native, strict=True))
    for node in nodes:
        if node.op == DEQUANTISE and not typed:
            writer = graph.producer(node.inputs[0])
            ours[node.outputs] &= writer is not None and writer.op == QUANTISE
    for quantise in (node for node in nodes if node.op == QUANTISE):
        q = quantise.outputs[0]
        readers = graph.readers(q)
        whole = ours[quantise.outputs] and q not in graph.outputs
        if not whole or not all(r.op == DEQUANTISE and ours[r.outputs] for r in readers):
            ours[quantise.outputs] = False
            ours |= {r.outputs: False for r in readers if r.op == DEQUANTISE and not typed}
    return [ours[node.outputs] for node in nodes]
