"""The shapes of a model's inputs at a given image size."""

from __future__ import annotations

import os

from activsparse.engine.graph import Shape
from activsparse.engine.plan_file import is_plan
from activsparse.errors import ActivsparseError
from activsparse.onnx_file import read_model

__all__ = ["shapes_at"]


def shapes_at(path: str | os.PathLike[str], size: tuple[int, int]) -> dict[str, Shape]:
    """Return `Session`'s `input_shapes` for an ONNX file that leaves height and width open.

    Args:
        path: the ONNX file.
        size: (H, W) of every input of shape (N, C, H, W); an open batch size becomes 1. Inputs of
            other ranks are left out.

    Raises:
        ActivsparseError: the file is a plan, damaged, or leaves the channels open.
    """
    if is_plan(path):
        raise ActivsparseError(
            f"{os.fspath(path)}: the input size of a plan is settled; compile the model again "
            "with another one"
        )
    graph = read_model(path, weights=False).graph
    constants = {tensor.name for tensor in graph.initializer}
    shapes: dict[str, Shape] = {}
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        if value.name in constants or len(dims) != 4:
            continue
        batch, channels = (dim.dim_value for dim in dims[:2])
        if channels < 1:
            raise ActivsparseError(
                f"{os.fspath(path)}: input '{value.name}' leaves its channels open; "
                "export the model with a fixed number"
            )
        shapes[value.name] = (batch or 1, channels, *size)
    return shapes
