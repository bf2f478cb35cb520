"""Reading and writing ONNX files, with errors that name the file, the cause and the remedy."""

from __future__ import annotations

import os

import onnx
from google.protobuf.message import EncodeError

from activsparse import onnx_file
from activsparse.errors import ActivsparseError
from activsparse.export.graph import tensor_types
from activsparse.files import atomic_path, require_file

__all__ = ["read_model", "save_model", "write_model"]

_MOST_WEIGHT_BYTES = 2**31 - 2**24


def read_model(path: str | os.PathLike[str]) -> onnx.ModelProto:
    """Load and check an ONNX model, external data included.

    Raises:
        ActivsparseError: no such file; damaged, not ONNX, or not a valid model.
    """
    file = require_file(path)
    model = onnx_file.read_model(file, foreign=True)  # masks leave them as they are
    onnx_file.check_constants(model.graph, str(file))
    _check(model, file, "export or copy it again")
    return model


def write_model(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Check a model and write it as one file, whole or not at all.

    Raises:
        ActivsparseError: the model is not valid, too large for one file, or the path not writable.
    """
    with atomic_path(path) as temporary:
        save_model(model, temporary, path)


def save_model(
    model: onnx.ModelProto, temporary: str | os.PathLike[str], path: str | os.PathLike[str]
) -> None:
    """Check a model and write it to a temporary file that the caller renames to `path`.

    Raises:
        ActivsparseError: the model is not valid, or too large for one file.
    """
    too_large = (
        f"{path}: cannot be written: one ONNX file holds up to 2 GB, and weights beside it are "
        "only read; take a smaller network, or run this one's own file"
    )
    if _is_large(model):
        raise ActivsparseError(too_large)
    _check(model, path, "please report this")
    try:
        onnx.save(model, temporary)
    except (ValueError, EncodeError) as error:  # by constants that are attributes of nodes
        raise ActivsparseError(too_large) from error


def _check(model: onnx.ModelProto, path: str | os.PathLike[str], remedy: str) -> None:
    _describe_outputs(model, path)
    # Nobody knows the shape of what a loop gives, or an operator of another domain.
    values = (*model.graph.input, *model.graph.output)
    bare = [value for value in values if _is_bare(value)]
    for value in bare:
        value.type.tensor_type.shape.SetInParent()
    try:
        if not _is_large(model):  # the checker takes what fits a message
            onnx.checker.check_model(model)
    except Exception as error:  # the checker raises several types, with no narrower base
        raise ActivsparseError(
            f"{path}: not a valid ONNX model ({_first_line(error)}); {remedy}"
        ) from error
    finally:
        for value in bare:
            value.type.tensor_type.ClearField("shape")


def _describe_outputs(model: onnx.ModelProto, path: str | os.PathLike[str]) -> None:
    """Write down shapes of outputs that have none, which the checker asks for and few others do."""
    bare = [value for value in model.graph.output if _is_bare(value)]
    types = tensor_types(model, str(path)) if bare else {}
    for value in bare:
        if value.name in types:
            elem_type, sizes = types[value.name]
            described = onnx.helper.make_tensor_value_info(value.name, elem_type, sizes)
            value.type.CopyFrom(described.type)


def _is_large(model: onnx.ModelProto) -> bool:
    """Whether the weights leave no room for the rest in a message of protobuf."""
    return sum(len(tensor.raw_data) for tensor in model.graph.initializer) > _MOST_WEIGHT_BYTES


def _is_bare(value: onnx.ValueInfoProto) -> bool:
    kind = value.type.WhichOneof("value")
    return kind in (None, "tensor_type") and not value.type.tensor_type.HasField("shape")


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
