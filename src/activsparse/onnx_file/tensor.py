"""Constants of a file as arrays."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from activsparse.errors import ActivsparseError

if TYPE_CHECKING:
    import onnx

__all__ = ["array_of", "dense_of", "type_name"]

# A sparse constant may claim any shape; dense, it takes this much at most.
_MOST_DENSE_BYTES = 1 << 30


def array_of(tensor: onnx.TensorProto, where: str) -> npt.NDArray[Any]:
    """Return what a tensor holds.

    Args:
        tensor: with its data, none of it external.
        where: file and owner, for the message.

    Raises:
        ActivsparseError: an unknown type, a negative size, or data that does not fit the shape.
    """
    import onnx

    name = type_name(tensor.data_type)
    if name is None:
        raise ActivsparseError(
            f"{where}: constant '{tensor.name}' has data type {tensor.data_type}, which ONNX does "
            "not know; export or copy the file again"
        )
    shape = tuple(tensor.dims)
    if tensor.data_location == onnx.TensorProto.EXTERNAL:
        raise ActivsparseError(
            f"{where}: the external data of constant '{tensor.name}' is not loaded; load it first"
        )
    try:
        if min(shape, default=0) < 0:
            raise ValueError(f"a size of its shape {_short(shape)} is negative")
        array: npt.NDArray[Any] = onnx.numpy_helper.to_array(tensor)
        if array.shape != shape:
            raise ValueError(f"it holds {array.size} values for the shape {_short(shape)}")
    except Exception as error:  # numpy and the onnx package raise whatever their parts raise
        cause = str(error) or type(error).__name__
        raise ActivsparseError(
            f"{where}: constant '{tensor.name}' is damaged ({cause}); export or copy the file again"
        ) from error
    return array


def dense_of(sparse: onnx.SparseTensorProto, where: str) -> onnx.TensorProto:
    """Return a sparse constant as a dense one of the same name.

    Its indices are positions in the flattened array, or one row of coordinates per value.

    Raises:
        ActivsparseError: it is damaged, or far larger than the file.
    """
    import onnx

    name = sparse.values.name
    values, indices = array_of(sparse.values, where), array_of(sparse.indices, where)
    shape = tuple(sparse.dims)
    size = math.prod(shape)
    fits = min(shape, default=1) >= 1 and values.ndim == 1 and indices.dtype == np.int64
    if fits and size * values.itemsize > _MOST_DENSE_BYTES:
        raise ActivsparseError(
            f"{where}: sparse constant '{name}' of shape {_short(shape)} takes more than "
            f"{_MOST_DENSE_BYTES >> 30} GiB; export it in smaller parts"
        )
    if fits and indices.shape == (len(values), len(shape)):
        inside = ((indices >= 0) & (indices < np.array(shape))).all()
        flat = np.ravel_multi_index(tuple(indices.T), shape) if inside else indices
    else:
        flat = indices
    if not fits or flat.shape != values.shape or (flat < 0).any() or (flat >= size).any():
        raise ActivsparseError(
            f"{where}: sparse constant '{name}' is damaged (its indices do not fit its values or "
            f"its shape {_short(shape)}); export or copy the file again"
        )
    dense = np.zeros(size, values.dtype)
    dense[flat] = values
    return onnx.numpy_helper.from_array(dense.reshape(shape), name)


def type_name(data_type: int) -> str | None:
    """Return the name of an ONNX element type as numpy writes it; None for one there is not."""
    import onnx

    names = {"FLOAT": "float32", "DOUBLE": "float64"}
    known = {v: k for k, v in onnx.TensorProto.DataType.items() if k != "UNDEFINED"}
    name = known.get(data_type)
    return None if name is None else names.get(name, name.lower())


def _short(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape[:8])) + ("x..." if len(shape) > 8 else "")
