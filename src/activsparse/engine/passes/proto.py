"""Nodes of a graph as the onnx package has them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activsparse.engine.graph import Node

if TYPE_CHECKING:
    import onnx

__all__ = ["node_proto"]


def node_proto(node: Node) -> onnx.NodeProto:
    """Return a node of an ONNX operator as the onnx package has it."""
    import onnx

    op, _, domain = node.op.partition("@")  # as `Graph.domains` says
    proto = onnx.helper.make_node(op, node.inputs, node.outputs, name=node.name, domain=domain)
    for key, value in node.attributes.items():
        tensor = onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        # An empty list does not say of what; hardly any operator has one of other numbers.
        kind = onnx.AttributeProto.INTS if isinstance(value, list) and not value else None
        proto.attribute.append(onnx.helper.make_attribute(key, tensor, attr_type=kind))
    return proto
