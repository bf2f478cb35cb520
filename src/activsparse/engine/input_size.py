"""The inputs of an ONNX file, and their shapes at given sizes."""

from __future__ import annotations

import os

from activsparse.engine.graph import Shape
from activsparse.engine.plan_file import is_plan
from activsparse.errors import ActivsparseError, Option
from activsparse.input_sizes import AnyRank, InputSizes, example_shape
from activsparse.onnx_file import read_model

__all__ = ["inputs_of", "shapes_at"]


def inputs_of(path: str | os.PathLike[str]) -> dict[str, AnyRank]:
    """Return the sizes of an ONNX file's inputs by name, None where they are open.

    None in place of all of them where the file has no shape.

    Raises:
        ActivsparseError: the file is a plan, or damaged.
    """
    if is_plan(path):
        raise ActivsparseError(
            f"{os.fspath(path)}: the input size of a plan is settled; compile the model again "
            "with another one"
        )
    graph = read_model(path, weights=False, foreign=True).graph
    constants = {tensor.name for tensor in graph.initializer}
    return {
        value.name: tuple(
            dim.dim_value if dim.dim_value >= 1 else None
            for dim in value.type.tensor_type.shape.dim
        )
        if value.type.tensor_type.HasField("shape")
        else None
        for value in graph.input
        if value.name not in constants
    }


def shapes_at(path: str | os.PathLike[str], sizes: InputSizes) -> dict[str, Shape]:
    """Return `Session`'s `input_shapes` for an ONNX file that leaves sizes open.

    Args:
        path: the ONNX file.
        sizes: what is known of them; an open batch size becomes 1.

    Raises:
        ActivsparseError: the file is a plan or damaged, or the sizes do not fit it or are too few.
    """
    shapes: dict[str, Shape] = {}
    for name, dims in sizes.resolve(inputs_of(path), os.fspath(path)).items():
        if None in dims[1:]:
            raise ActivsparseError(
                f"{os.fspath(path)}: input '{name}' has open dimensions still; "
                "give its shape, for example ",
                Option("input_shapes", {name: example_shape(dims)}),
            )
        shapes[name] = tuple(size or 1 for size in dims)
    return shapes
