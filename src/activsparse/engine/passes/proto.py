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

    attributes = {
        key: onnx.numpy_helper.from_array(value) if isinstance(value, np.ndarray) else value
        for key, value in node.attributes.items()
    }
    return onnx.helper.make_node(node.op, node.inputs, node.outputs, name=node.name, **attributes)
