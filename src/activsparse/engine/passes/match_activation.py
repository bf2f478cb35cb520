"""Activations written as arithmetic: x * sigmoid(x), x * clip(x + 3, 0, 6) / 6 and the like.

Whatever nodes compute an element of a value from the same element of one other value are a function
of one number. It is compared with the engine's activations by what it gives.
"""

from __future__ import annotations

import numpy as np

from activsparse.engine.graph import Array, Graph, Node
from activsparse.engine.passes.activations import apply

__all__ = ["match_activation"]

# Between these points lie no kinks of any activation in use, and the large ones tell bounded
# functions from unbounded ones.
_PROBES = np.concatenate([np.linspace(-9.0, 9.0, 1153), [-1e4, -1e2, -20.0, 20.0, 1e2, 1e4]])
_TARGETS = {
    name: apply({"activation": name}, _PROBES)
    for name in ("silu", "hardswish", "hardsigmoid", "sigmoid", "gelu", "gelu_tanh", "mish")
}

# The longest form in use, gelu by tanh with a cube of two products, has nine nodes.
_MOST_NODES = 12

_FUNCTIONS = {
    "add": np.add,
    "divide": np.divide,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "mul": np.multiply,
    "multiply": np.multiply,
    "subtract": np.subtract,
}


def match_activation(graph: Graph) -> Graph:
    """Replace nodes that together are an activation by one `activate`."""
    graph = graph.copy()
    for node in graph.nodes:
        if _is_pointwise(node):
            _match(graph, node)
    return graph


def _is_pointwise(node: Node) -> bool:
    """Whether it gives a function of each element, the same for all."""
    if node.op == "combine":
        return node.attributes["function"] in _FUNCTIONS
    return node.op in ("activate", "add", "mul") or _is_line(node)


def _is_line(node: Node) -> bool:
    """Whether the node is a * x + b with the same a and b everywhere."""
    if node.op not in ("map", "scale_shift") or not node.arrays:
        return False
    return all(np.ptp(node.arrays[name]) == 0 for name in ("scale", "shift"))


def _match(graph: Graph, last: Node) -> None:
    """Look for an activation that ends with a node, from the last nodes to earlier ones."""
    nodes, sources = [last], set(last.inputs)
    while len(nodes) < _MOST_NODES:
        if len(nodes) > 1 and len(sources) == 1 and _is_closed(graph, nodes):
            (x,) = sources
            same = graph.shape(x) == graph.shape(last.output)
            name = _name_of(_evaluate(nodes, x)) if same else None
            if name is not None:
                _replace(graph, nodes, Node("activate", last.name, (x,), last.outputs), name)
                return
        made = [node for node in map(graph.producer, sources) if node is not None]
        if not made:
            return
        # The latest: what it was computed from may be the others.
        first = max(made, key=graph.nodes.place)
        if not _is_pointwise(first):
            return
        sources = (sources - {first.output}) | set(first.inputs)
        nodes.insert(0, first)


def _is_closed(graph: Graph, nodes: list[Node]) -> bool:
    """Whether nobody else reads what lies between them."""
    return all(
        graph.uses(node.output) == sum(other.inputs.count(node.output) for other in nodes)
        for node in nodes[:-1]
    )


def _evaluate(nodes: list[Node], x: str) -> Array:
    values = {x: _PROBES}
    with np.errstate(all="ignore"):
        for node in nodes:
            values[node.output] = _value(node, [values[name] for name in node.inputs])
    return values[nodes[-1].output]


def _value(node: Node, operands: list[Array]) -> Array:
    if node.op in ("map", "scale_shift"):
        scale, shift = (float(node.arrays[name].flat[0]) for name in ("scale", "shift"))
        result = scale * operands[0] + shift
    elif node.op == "activate":
        (result,) = operands
    else:
        function = _FUNCTIONS[node.attributes.get("function", node.op)]
        result = function(*operands)
    return apply(node.attributes, result)


def _name_of(values: Array) -> str | None:
    for name, target in _TARGETS.items():
        if np.allclose(values, target, rtol=1e-6, atol=1e-7):
            return name
    return None


def _replace(graph: Graph, old: list[Node], new: Node, name: str) -> None:
    for node in old[:-1]:
        graph.nodes.replace(node)
    graph.nodes.replace(old[-1], new.with_attributes(activation=name))
