"""Nodes in execution order."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

from activsparse.errors import ActivsparseError
from activsparse.onnx_file.bodies import bodies, reads
from activsparse.onnx_file.check import title

if TYPE_CHECKING:
    import onnx

__all__ = ["sort_nodes"]


def sort_nodes(graph: onnx.GraphProto, file: str) -> None:
    """Put nodes behind those whose results they read; in a sorted graph nothing moves.

    Sub-graphs are sorted as well.

    Raises:
        ActivsparseError: nodes wait for each other.
    """
    for node in graph.node:
        for body in bodies(node):
            sort_nodes(body, file)
    writer = {name: i for i, node in enumerate(graph.node) for name in node.output if name}
    waits = [{writer[name] for name in reads(node) if name in writer} for node in graph.node]
    if all(not before or max(before) < i for i, before in enumerate(waits)):
        return
    readers: dict[int, list[int]] = {}
    for i, before in enumerate(waits):
        for at in before:
            readers.setdefault(at, []).append(i)
    missing = [len(before) for before in waits]
    ready = [i for i, count in enumerate(missing) if count == 0]
    order = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for reader in readers.get(i, ()):
            missing[reader] -= 1
            if missing[reader] == 0:
                heapq.heappush(ready, reader)
    if len(order) < len(waits):
        stuck = next(i for i, count in enumerate(missing) if count)
        raise ActivsparseError(
            f"{file}: {title(graph.node[stuck])} and others wait for each other's results; "
            "export without loops"
        )
    nodes = [graph.node[i] for i in order]
    copies = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)
