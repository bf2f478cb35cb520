"""What crosses the border of a model in other types than float32, in which the engine computes.

float16 is widened on the way in and rounded on the way out, float64 the other way round. Integers
and truth values are held as float32, which has every whole number up to 2^24.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from activsparse.engine.graph import Array, Graph

__all__ = ["as_array", "numpy_type", "onnx_type", "random_values", "types_of", "with_type"]

_NAMES = {"float32": "float", "float64": "double"}


def as_array(value: Any) -> npt.NDArray[Any]:
    """What a user hands in as an array: a tensor of torch may carry gradients, or be elsewhere.

    Raises:
        ValueError, TypeError: it is no array.
    """
    try:
        return np.asarray(value.detach().cpu() if hasattr(value, "detach") else value)
    except NotImplementedError as error:  # torch's meta device holds no values
        raise ValueError(str(error)) from error


def onnx_type(dtype: npt.DTypeLike) -> str:
    """How ONNX Runtime calls a tensor's type."""
    name = np.dtype(dtype).name
    return f"tensor({_NAMES.get(name, name)})"


def numpy_type(kind: str) -> np.dtype[Any] | None:
    """The type of what ONNX Runtime calls `tensor(...)`; None where numpy has none."""
    element = kind.removeprefix("tensor(").removesuffix(")")
    names = {onnx_name: name for name, onnx_name in _NAMES.items()}
    try:
        return np.dtype(names.get(element, element))
    except TypeError:
        return None


def types_of(graph: Graph, names: list[str]) -> dict[str, str]:
    """The types, as numpy names them, of inputs and outputs that are not float32.

    Args:
        graph: after its shapes and types are inferred.
        names: of the outputs, where `graph.outputs` may name earlier values.
    """
    types = {name: graph.dtypes[name] for name in graph.inputs if name in graph.dtypes}
    for name, value in zip(names, graph.outputs, strict=True):
        constant = graph.constants.get(value)
        dtype = graph.dtypes.get(value) if constant is None else constant.dtype
        if dtype is not None and dtype != np.float32:
            types[name] = dtype
    ends = (*graph.inputs, *names)
    types |= {name: dtype for name, dtype in graph.border.items() if name in ends}
    return {name: dtype.name for name, dtype in types.items()}


def with_type(value: Array, dtype: npt.DTypeLike) -> Array:
    """A value in another type; one that is whole and held as float32 keeps its number."""
    return value if value.dtype == dtype else value.astype(dtype)


def random_values(
    rng: np.random.Generator, shape: tuple[int, ...], dtype: npt.DTypeLike = np.float32
) -> npt.NDArray[Any]:
    """Values to try a model with: standard normal ones, bytes, or small whole numbers."""
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return np.asarray(rng.standard_normal(shape, np.float32), dtype)
    limits = {"uint8": (0, 256), "int8": (-128, 128)}
    low, high = limits.get(dtype.name, (0, 2))
    return np.asarray(rng.integers(low, high, shape), dtype)
