"""A graph that computes in another type of floating-point numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from activsparse.onnx_file.bodies import bodies

if TYPE_CHECKING:
    import onnx

__all__ = ["retype"]


def retype(graph: onnx.GraphProto, before: int, after: int) -> None:
    """Make every value of a graph and its sub-graphs that is of one type one of another.

    Args:
        graph: changed in place.
        before: the type that is replaced, of `onnx.TensorProto`.
        after: the type in its place.
    """
    import onnx
    from onnx import helper, numpy_helper

    _retype_tensors(graph.initializer, before, after)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == before:
            value.type.tensor_type.elem_type = after
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                _retype_tensors([attribute.t], before, after)
            elif attribute.name in ("to", "dtype") and attribute.i == before:
                attribute.i = after
            elif (
                before == onnx.TensorProto.FLOAT
                and node.op_type == "Constant"
                and attribute.name in ("value_float", "value_floats")
            ):
                values = attribute.f if attribute.name == "value_float" else attribute.floats
                dtype = helper.tensor_dtype_to_np_dtype(after)
                tensor = numpy_helper.from_array(np.asarray(values, dtype))
                attribute.CopyFrom(helper.make_attribute("value", tensor))
        for body in bodies(node):
            retype(body, before, after)


def _retype_tensors(tensors: Iterable[onnx.TensorProto], before: int, after: int) -> None:
    from onnx import helper, numpy_helper

    for tensor in tensors:
        if tensor.data_type == before:
            values = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(after))
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
