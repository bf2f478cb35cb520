"""Sub-graphs that nodes hold: the branches of `If`, the bodies of `Loop` and `Scan`.

They read values of the graph around them by name, without naming them as inputs of their node.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["bodies", "captured", "reads", "rename", "rename_captured"]


def bodies(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    """The sub-graphs of a node."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def captured(body: onnx.GraphProto) -> list[str]:
    """Names a sub-graph reads from the graph around it, each once."""
    own = {value.name for value in (*body.input, *body.initializer)}
    own |= {sparse.values.name for sparse in body.sparse_initializer}
    own |= {name for node in body.node for name in node.output}
    read = [name for node in body.node for name in reads(node)]
    read += [value.name for value in body.output]
    return [name for name in dict.fromkeys(read) if name and name not in own]


def reads(node: onnx.NodeProto) -> list[str]:
    """Names a node reads, those its sub-graphs read from outside included."""
    inner = [name for body in bodies(node) for name in captured(body)]
    return [name for name in dict.fromkeys([*node.input, *inner]) if name]


def rename(node: onnx.NodeProto, names: Mapping[str, str]) -> None:
    """Rename what a node reads and writes, in its sub-graphs what they read from outside."""
    for field in (node.input, node.output):
        new = [names.get(name, name) for name in field]
        del field[:]
        field.extend(new)
    for body in bodies(node):
        rename_captured(body, names)


def rename_captured(body: onnx.GraphProto, names: Mapping[str, str]) -> None:
    """Rename what a sub-graph reads from the graph around it."""
    outside = {name: names[name] for name in captured(body) if name in names}
    if not outside:
        return
    for node in body.node:
        rename(node, outside)
    for value in body.output:
        value.name = outside.get(value.name, value.name)
