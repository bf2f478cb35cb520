"""Activations written as arithmetic: x * sigmoid(x), x * clip(x + 3, 0, 6) / 6 and the like."""

from __future__ import annotations

import numpy as np

from activsparse.engine.graph import Array, Graph, Node
from activsparse.engine.passes.activations import apply

__all__ = ["match_activation"]

# Chains of lines, clips and sigmoids are compared with the engine's activations on these points.
# Between them lie no kinks of any activation in use, and the large ones tell bounded functions from
# unbounded ones.
_PROBES = np.concatenate([np.linspace(-9.0, 9.0, 1153), [-1e4, -1e2, -20.0, 20.0, 1e2, 1e4]])
_TARGETS = ("silu", "hardswish", "hardsigmoid", "sigmoid")


def match_activation(graph: Graph) -> Graph:
    """Replace x * gate(x), with what scales it, and gates alone by one `activate`."""
    graph = graph.copy()
    for node in graph.nodes:
        if node.op == "mul":
            _match_gated(graph, node)
    for node in graph.nodes:
        if node.op == "activate":
            _match_chain(graph, node)
    return graph


def _match_gated(graph: Graph, node: Node) -> None:
    for x, gate in (node.inputs, node.inputs[::-1]):
        chain = _chain_to(graph, gate, x)
        if not chain:
            continue
        values = _PROBES * _evaluate(chain, _PROBES)
        after = _only_line_after(graph, node)
        if after is not None and _matches(_line(after, values)):
            _replace(graph, [*chain, node, after], x, _line(after, values))
            return
        if _matches(values):
            _replace(graph, [*chain, node], x, values)
            return


def _match_chain(graph: Graph, node: Node) -> None:
    """A clip between two lines that together are a hardsigmoid."""
    before = graph.producer(node.inputs[0])
    after = _only_line_after(graph, node)
    if before is None or after is None or graph.uses(node.inputs[0]) != 1:
        return
    if not _is_line(before):
        return
    values = _line(after, _evaluate([before, node], _PROBES))
    if _matches(values):
        _replace(graph, [before, node, after], before.inputs[0], values)


def _chain_to(graph: Graph, gate: str, x: str) -> list[Node]:
    """Nodes from `x` to `gate` if they are all pointwise and read by nobody else; else []."""
    chain: list[Node] = []
    while gate != x:
        node = graph.producer(gate)
        if node is None or graph.uses(gate) != 1 or not (node.op == "activate" or _is_line(node)):
            return []
        chain.insert(0, node)
        gate = node.inputs[0]
    return chain


def _is_line(node: Node) -> bool:
    """Whether the node is a * x + b with the same a and b in all channels."""
    if node.op != "scale_shift":
        return False
    return all(np.ptp(node.arrays[name]) == 0 for name in ("scale", "shift"))


def _only_line_after(graph: Graph, node: Node) -> Node | None:
    after = graph.only_consumer(node.output)
    return after if after is not None and _is_line(after) else None


def _line(node: Node, x: Array) -> Array:
    scale, shift = float(node.arrays["scale"][0]), float(node.arrays["shift"][0])
    return apply(node.attributes, scale * x + shift)


def _evaluate(chain: list[Node], x: Array) -> Array:
    for node in chain:
        x = _line(node, x) if node.op == "scale_shift" else apply(node.attributes, x)
    return x


def _matches(values: Array) -> str | None:
    for name in _TARGETS:
        if np.allclose(values, apply({"activation": name}, _PROBES), rtol=1e-6, atol=1e-7):
            return name
    return None


def _replace(graph: Graph, old: list[Node], x: str, values: Array) -> None:
    last = old[-1]
    new = Node("activate", last.name, (x,), last.outputs, {"activation": _matches(values)})
    for node in old:
        graph.nodes.replace(node, *([new] if node is last else []))
