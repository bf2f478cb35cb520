"""A model with weights moved at random, as another rounding of them would."""

from __future__ import annotations

import os

import numpy as np
import onnx
from onnx import numpy_helper

__all__ = ["with_drawn_weights"]

# Operators whose second input is a weight, and what may stand between it and the file's constant.
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_BETWEEN = ("Cast", "Identity", "Reshape", "Transpose")


def with_drawn_weights(
    path: str | os.PathLike[str], share: float, rng: np.random.Generator
) -> onnx.ModelProto:
    """Return a model whose products' weights are each moved by a normal share of themselves.

    Depthwise weights stay, as they do in the engine.

    Args:
        path: the model.
        share: standard deviation of the relative change.
        rng: draws it.
    """
    model = onnx.load(path)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    moved = set()
    for node in graph.node:
        if node.op_type not in _PRODUCTS:
            continue
        name = node.input[1]
        while name in producers and producers[name].op_type in _BETWEEN:
            name = producers[name].input[0]
        tensor = constants.get(name)
        if tensor is None or name in moved or (node.op_type == "Conv" and tensor.dims[1] == 1):
            continue
        moved.add(name)
        values = numpy_helper.to_array(tensor)
        noise = 1 + share * rng.standard_normal(values.shape, np.float32)
        tensor.CopyFrom(numpy_helper.from_array((values * noise).astype(values.dtype), tensor.name))
    return model
