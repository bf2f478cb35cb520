"""Models in float16 or float64, as the engine computes them: in float32."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from activsparse.engine.graph import Array, Graph, Node
from activsparse.engine.passes.proto import renamed

__all__ = ["narrow", "widen"]


def widen(graph: Graph) -> Graph:
    """Return a graph of ONNX nodes that computes in float32 where it did in float16.

    What its inputs and outputs were stays noted in `graph.border`.
    """
    graph = graph.copy()
    graph.constants = {name: _cast(value, np.float16) for name, value in graph.constants.items()}
    for node in graph.nodes:
        graph.nodes.replace(node, _retyped(node, np.float16))
    graph.dtypes = {k: v for k, v in graph.dtypes.items() if v != np.float16}
    return graph


def narrow(graph: Graph, node: Node) -> Node:
    """Return an ONNX node that computes in float32 where it did in float64.

    Its constants become others in the graph, so that what is computed of constants alone, such as
    sizes, keeps its digits.
    """
    names = {}
    for name in node.inputs:
        value = graph.constants.get(name)
        if value is not None and value.dtype == np.float64:
            names[name] = f"{name} as float32"
            graph.constants[names[name]] = _cast(value, np.float64)
            graph.shapes[names[name]] = tuple(value.shape)
    return _retyped(renamed(node, names) if names else node, np.float64)


def _retyped(node: Node, before: npt.DTypeLike) -> Node:
    """An ONNX node whose attributes speak of float32 in place of another type."""
    import onnx

    from activsparse.onnx_file.retype import retype

    code, full = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(before)), onnx.TensorProto.FLOAT
    attributes = {
        key: full
        if key in ("to", "dtype") and value == code
        else _cast(value, before)
        if isinstance(value, np.ndarray)
        else value
        for key, value in node.attributes.items()
    }
    for value in attributes.values():
        for body in value if isinstance(value, list) else [value]:
            if isinstance(body, onnx.GraphProto):
                retype(body, code, full)
    return node.with_attributes(**attributes)


def _cast(value: Array, before: npt.DTypeLike) -> Array:
    """A constant as float32 if it is of the type `before`; what is too large becomes infinite."""
    if value.dtype != before:
        return value
    with np.errstate(over="ignore"):
        return value.astype(np.float32)
