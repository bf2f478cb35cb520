"""Functions of a single quantised value: a table of what they give for each of its 256 bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from activsparse.engine.graph import Array, Graph, Node, Scale
from activsparse.engine.passes.evaluate import evaluate
from activsparse.engine.passes.quantised.pairs import DEQUANTISE
from activsparse.errors import ActivsparseError

__all__ = ["function_of_one", "table_of"]

# Of one element each, whatever the others are.
_POINTWISE = (
    *("Abs", "Add", "Celu", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid"),
    *("HardSwish", "LeakyRelu", "Mish", "Mul", "Neg", "Pow", "Relu", "Selu", "Sigmoid"),
    *("Softplus", "Softsign", "Sqrt", "Sub", "Swish", "Tanh"),
)

_MOST = 16
"""Operators of a function that is spelled out, such as GELU or Mish."""


def function_of_one(graph: Graph, result: str) -> tuple[str, list[Node]]:
    """Return the dequantised value that `result` is a function of, and the operators in order.

    Such as x * sigmoid(x), of which several operators read the same value. Nobody else reads what
    is between. Without operators where it is no such function.
    """
    order: list[Node] = []
    leaves: set[str] = set()

    def visit(name: str) -> bool:
        node = graph.producer(name)
        if not name or name in graph.constants or any(node is known for known in order):
            return True
        if node is None:
            return False
        if node.op == DEQUANTISE:
            leaves.add(name)
            return True
        if node.op not in _POINTWISE or len(node.outputs) != 1 or len(order) == _MOST:
            return False
        if not all(visit(source) for source in node.inputs):
            return False
        order.append(node)
        return True

    nothing: tuple[str, list[Node]] = "", []
    if not visit(result) or len(leaves) != 1:
        return nothing
    reads = [name for node in order for name in node.inputs] + [result]
    if any(reads.count(node.outputs[0]) != graph.uses(node.outputs[0]) for node in order):
        return nothing
    return leaves.pop(), order


def table_of(
    graph: Graph, functions: Sequence[Node], value: str, at: Scale, scale: Scale
) -> Array | None:
    """Return the results as bytes, uint8 (256,), of functions that are computed one by one.

    None where one of them is unknown, or depends on where an element lies.

    Args:
        graph: knows the functions' constants.
        functions: in order.
        value: the name of what the first ones read.
        at: what its bytes stand for.
        scale: what those of the result shall stand for.
    """
    known: dict[str, Array] = {value: at.values(np.arange(256))}
    for node in functions:
        if node.op not in _POINTWISE:
            return None
        for name in node.inputs:
            if name in graph.constants:
                if graph.constants[name].size != 1:
                    return None
                known[name] = graph.constants[name]
            elif name and name not in known:
                return None
        inputs = {name: known[name] for name in node.inputs if name}
        try:
            known |= evaluate(replace(graph, constants=inputs), node)
        except ActivsparseError:
            return None
    return scale.bytes_of(np.asarray(known[functions[-1].outputs[0]], np.float32).reshape(256))
