"""Nodes of a graph as the onnx package has them, and the other way round.

A node with sub-graphs lists what they read from the graph around it behind its own inputs, so that
nothing else need know of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from activsparse.engine.graph import Node
from activsparse.onnx_file.bodies import captured, rename_captured
from activsparse.onnx_file.check import STANDARD
from activsparse.onnx_file.tensor import array_of

if TYPE_CHECKING:
    import onnx

__all__ = ["has_body", "node_of", "node_proto", "own_inputs", "renamed"]


def node_of(proto: onnx.NodeProto, file: str) -> Node:
    """Return a node of a graph.

    Args:
        proto: as the onnx package has it.
        file: that it came from, for messages.

    Raises:
        ActivsparseError: a constant in it is damaged.
    """
    import onnx

    name = proto.name or next(filter(None, proto.output), proto.op_type)
    where = f"{file}: node '{name}' ({proto.op_type})"
    attributes: dict[str, Any] = {}
    for attribute in proto.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif isinstance(value, onnx.TensorProto):
            value = array_of(value, where)
        attributes[attribute.name] = value
    op = proto.op_type if proto.domain in STANDARD else f"{proto.op_type}@{proto.domain}"
    node = Node(op, name, tuple(proto.input), tuple(proto.output), attributes)
    return replace(node, inputs=(*node.inputs, *_captured(attributes)))


def node_proto(node: Node) -> onnx.NodeProto:
    """Return a node of an ONNX operator as the onnx package has it."""
    import onnx

    op, _, domain = node.op.partition("@")  # as `Graph.domains` says
    inputs = own_inputs(node)
    proto = onnx.helper.make_node(op, inputs, node.outputs, name=node.name, domain=domain)
    for key, value in node.attributes.items():
        tensor = onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        # An empty list does not say of what; hardly any operator has one of other numbers.
        kind = onnx.AttributeProto.INTS if isinstance(value, list) and not value else None
        proto.attribute.append(onnx.helper.make_attribute(key, tensor, attr_type=kind))
    return proto


def has_body(node: Node) -> bool:
    """Whether an ONNX node holds sub-graphs."""
    return next(_bodies(node.attributes), None) is not None


def own_inputs(node: Node) -> tuple[str, ...]:
    """The inputs of an ONNX node without what its sub-graphs read."""
    return node.inputs[: len(node.inputs) - len(_captured(node.attributes))]


def renamed(node: Node, names: Mapping[str, str]) -> Node:
    """Return an ONNX node that reads other values, in its sub-graphs too."""
    inputs = tuple(names.get(name, name) for name in node.inputs)
    if not has_body(node):
        return replace(node, inputs=inputs)
    own = inputs[: len(own_inputs(node))]
    attributes = dict(node.attributes)
    for key, value in attributes.items():
        if _is_graph(value):
            attributes[key] = type(value).FromString(value.SerializeToString())
        elif isinstance(value, list) and any(map(_is_graph, value)):
            attributes[key] = [type(body).FromString(body.SerializeToString()) for body in value]
    for body in _bodies(attributes):
        rename_captured(body, names)
    return replace(node, inputs=(*own, *_captured(attributes)), attributes=attributes)


def _captured(attributes: Mapping[str, Any]) -> list[str]:
    names = [name for body in _bodies(attributes) for name in captured(body)]
    return list(dict.fromkeys(names))


def _bodies(attributes: Mapping[str, Any]) -> Iterator[onnx.GraphProto]:
    for value in attributes.values():
        yield from filter(_is_graph, value if isinstance(value, list) else [value])


def _is_graph(value: Any) -> bool:
    return hasattr(value, "sparse_initializer")
