"""Where a network is cut between this engine and another one: few values, and small ones.

What passes from one to the other changes its layout, and ends a part that runs by itself. So what
only carries values to and fro is left to the other engine, however well this one knows it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

from activsparse.engine.graph import Graph, Node

__all__ = ["cut", "passed_elements"]

_WORTH_IT = (
    *("Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum"),
    *("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
)
"""Operators that a part of ours is there for."""

_TIED = ("QuantizeLinear", "DequantizeLinear")
"""Read together with their neighbours; apart from them they are something else."""


def cut(graph: Graph, native: Sequence[bool]) -> list[bool]:
    """Hand over what costs more to fetch and to bring back than it is worth.

    Neighbouring nodes of ours that hold no product of matrices, next to a node of the other
    engine's, go to that. So do single ones at the edge of ours where the values that then pass are
    smaller, one after the other, until nothing gets smaller.

    Args:
        graph: ONNX nodes in the order of execution.
        native: of each whether this engine can run it.

    Returns:
        Of each whether it shall.
    """
    nodes, ours = list(graph.nodes), list(native)
    if all(ours):
        return ours
    passing = _Passing(graph, nodes)
    for group in _neighbours(passing, ours):
        worth = any(nodes[at].op in _WORTH_IT for at in group)
        if not worth and any(not ours[other] for at in group for other in passing.around(at)):
            for at in group:
                ours[at] = False
    waiting = [at for at, of_us in enumerate(ours) if of_us]
    while waiting:
        at = waiting.pop()
        if ours[at] and passing.is_better_outside(at, ours):
            ours[at] = False
            waiting += [other for other in passing.around(at) if ours[other]]
    return ours


def passed_elements(graph: Graph, native: Sequence[bool]) -> int:
    """How many numbers pass between the engines in a run."""
    passing = _Passing(graph, list(graph.nodes))
    return sum(passing.elements(name) for name in passing.names if passing.passes(name, native))


class _Passing:
    """Who writes and who reads each value that only a run knows."""

    def __init__(self, graph: Graph, nodes: Sequence[Node]) -> None:
        self._graph, self._nodes = graph, nodes
        self._writer = {name: at for at, node in enumerate(nodes) for name in node.outputs if name}
        self._readers: dict[str, list[int]] = defaultdict(list)
        for at, node in enumerate(nodes):
            for name in dict.fromkeys(node.inputs):
                if name and name not in graph.constants:
                    self._readers[name].append(at)
        self._given = set(graph.outputs)
        self.names = dict.fromkeys([*self._readers, *self._writer])

    def around(self, at: int) -> list[int]:
        """Nodes that write what one reads, or read what it writes."""
        node = self._nodes[at]
        before = [self._writer[name] for name in node.inputs if name in self._writer]
        after = [other for name in node.outputs for other in self._readers.get(name, ())]
        return list(dict.fromkeys((*before, *after)))

    def elements(self, name: str) -> int:
        """How many numbers a value has; 1 where only a run knows."""
        return math.prod(self._graph.shapes.get(name, ()))

    def passes(self, name: str, ours: Sequence[bool]) -> bool:
        """Whether a value changes hands. The network's own are those of another engine."""
        writer = self._writer.get(name)
        written = writer is not None and ours[writer]
        read = {ours[at] for at in self._readers.get(name, ())}
        return (not written) in read or (written and name in self._given)

    def is_better_outside(self, at: int, ours: list[bool]) -> bool:
        """Whether less passes when a node at the edge is the other engine's."""
        node, around = self._nodes[at], self.around(at)
        names = dict.fromkeys(n for n in (*node.inputs, *node.outputs) if n in self.names)
        if node.op in (*_WORTH_IT, *_TIED) or not all(n in self._graph.shapes for n in names):
            return False
        if all(ours[other] for other in around) or any(n in self._graph.dtypes for n in names):
            return False
        if any(self._nodes[other].op in _TIED for other in around):
            return False
        inside = self._sum(names, ours)
        ours[at] = False
        outside = self._sum(names, ours)
        ours[at] = True
        return outside < inside

    def _sum(self, names: Iterable[str], ours: Sequence[bool]) -> int:
        return sum(self.elements(name) for name in names if self.passes(name, ours))


def _neighbours(passing: _Passing, ours: Sequence[bool]) -> list[list[int]]:
    """Nodes of ours, by what hangs together through them alone."""
    found: list[list[int]] = []
    seen: set[int] = set()
    for first, of_us in enumerate(ours):
        if not of_us or first in seen:
            continue
        group, waiting = [], [first]
        seen.add(first)
        while waiting:
            group.append(at := waiting.pop())
            more = [other for other in passing.around(at) if ours[other] and other not in seen]
            seen.update(more)
            waiting += more
        found.append(group)
    return found
