"""Norms written as arithmetic: (x - mean) / sqrt(mean of (x - mean)^2 + epsilon).

Exporters wrote a layer norm so before opset 17, and write what networks compute themselves so to
this day. A group norm is an InstanceNormalization of groups as channels, reshaped before and
behind.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from activsparse.engine.graph import Graph, Node
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.norm import normalize
from activsparse.engine.passes.convert.source import Source

__all__ = ["match_norm"]

_ONE, _ZERO = np.ones(1, np.float32), np.zeros(1, np.float32)


def match_norm(graph: Graph) -> Graph:
    """Replace them by `normalize`."""
    graph = graph.copy()
    for node in list(graph.nodes):
        if node.op in ("Div", "Mul"):
            _match_arithmetic(graph, node)
        elif node.op == "InstanceNormalization":
            _match_groups(graph, node)
    return graph


def _match_arithmetic(graph: Graph, node: Node) -> None:
    """`node` is the quotient of what deviates from the mean and its standard deviation."""
    found = None
    for deviation, inverse in (node.inputs, node.inputs[::-1]):
        root = graph.producer(inverse)
        if node.op == "Mul" and root is not None and root.op == "Reciprocal":
            root = graph.producer(root.inputs[0])
        elif node.op == "Mul" or inverse != node.inputs[1]:
            continue
        found = found or _norm(graph, deviation, root)
    if found is None:
        return
    x, axes, epsilon = found
    rank, chain = len(graph.shape(x)), Chain(Source(graph, node))

    def body(x: str) -> str:
        return normalize(chain, x, 0, epsilon, _ONE, _ZERO)

    if axes == [rank - 1]:
        value = chain.on_channels(x, body)
    elif axes == [1] and rank == 4:
        value = body(x)
    elif axes in ([2, 3], [1, 2, 3]) and rank == 4:
        groups = graph.shape(x)[1] if len(axes) == 2 else 1
        value = normalize(chain, x, groups, epsilon, _ONE, _ZERO)
    elif axes == list(range(rank - len(axes), rank)):
        shape = graph.shape(x)
        flat = (math.prod(shape[: -len(axes)]), math.prod(shape[-len(axes) :]))
        value = chain.reshape(body(chain.reshape(x, flat)), shape)
    else:
        return
    graph.nodes.replace(node, *chain.done(value))


def _norm(graph: Graph, deviation: str, root: Node | None) -> tuple[str, list[int], float] | None:
    """The value that is normalised, over which axes, and what is added to the variance."""
    if root is None or root.op != "Sqrt":
        return None
    total = graph.producer(root.inputs[0])
    if total is None or total.op != "Add":
        return None
    constants = [name for name in total.inputs if name in graph.constants]
    if len(constants) != 1 or graph.constants[constants[0]].size != 1:
        return None
    epsilon = float(graph.constants[constants[0]].reshape(-1)[0])
    variance = graph.producer(next(name for name in total.inputs if name not in constants))
    axes = _averaged(graph, variance)
    square = graph.producer(variance.inputs[0]) if variance is not None and axes else None
    difference = graph.producer(deviation)
    if square is None or difference is None or difference.op != "Sub" or not epsilon >= 0:
        return None
    x = difference.inputs[0]
    if not _is_deviation(graph, deviation, x, axes):
        return None
    if square.op == "Pow":
        exponent = graph.constants.get(square.inputs[1])
        squares = exponent is not None and exponent.size == 1 and float(exponent.flat[0]) == 2
    else:
        squares = square.op == "Mul" and square.inputs[0] == square.inputs[1]
    if not squares or not _is_deviation(graph, square.inputs[0], x, axes):
        return None
    return x, axes, epsilon


def _is_deviation(graph: Graph, value: str, x: str, axes: list[int]) -> bool:
    """Whether `value` is x minus its mean; older exporters computed that twice."""
    node = graph.producer(value)
    if node is None or node.op != "Sub" or node.inputs[0] != x:
        return False
    mean = graph.producer(node.inputs[1])
    return mean is not None and mean.inputs[0] == x and _averaged(graph, mean) == axes


def _averaged(graph: Graph, node: Node | None) -> list[int]:
    """The axes a mean runs over and keeps; [] where it is none."""
    if node is None or node.op != "ReduceMean" or not node.attributes.get("keepdims", 1):
        return []
    given = node.attributes.get("axes")
    if len(node.inputs) > 1 and node.inputs[1]:
        given = graph.constants.get(node.inputs[1])
    if given is None:
        return []
    rank = len(graph.shape(node.inputs[0]))
    return sorted(int(axis) % rank for axis in np.reshape(given, -1))


def _match_groups(graph: Graph, node: Node) -> None:
    before, after = graph.producer(node.inputs[0]), graph.only_consumer(node.outputs[0])
    if before is None or after is None or before.op != "Reshape" or after.op != "Reshape":
        return
    x, y = before.inputs[0], after.outputs[0]
    shape, cut = graph.shape(x), graph.shape(node.inputs[0])
    if len(shape) < 3 or graph.shape(y) != shape or cut[0] != shape[0] or len(cut) < 3:
        return
    channels, groups = shape[1], cut[1]
    constants = [graph.constants.get(name) for name in node.inputs[1:3]]
    tables = [table for table in constants if table is not None and table.shape == (groups,)]
    if channels % groups or len(tables) != 2:
        return
    names = []
    for name, table in zip(("scale", "bias"), tables, strict=True):
        names.append(f"{node.outputs[0]}.{name}")
        graph.constants[names[-1]] = np.repeat(table, channels // groups)
        graph.shapes[names[-1]] = (channels,)
    norm = replace(node, op="GroupNormalization", inputs=(x, *names), outputs=(y,)).with_attributes(
        num_groups=groups
    )
    graph.nodes.replace(node)
    graph.nodes.replace(after, norm)
