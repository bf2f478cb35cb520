"""Fill `nearest` in a form that pnnx keeps: a GridSample, which moves positions as the Gather does.

pnnx 20261020 makes a `Tensor.select` of every Gather by a list, and of that ncnn's Crop to the one
position behind the first, whatever the list says: the network that comes out computes other
numbers. GridSample of mode `nearest` at the middle of the source positions is the same function.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

__all__ = ["sample_fills"]

# The first version with GridSample.
_OPSET = 16


def sample_fills(model: onnx.ModelProto) -> None:
    """Turn every Reshape to (N, C, H*W), Gather along positions and Reshape back into a GridSample.

    Args:
        model: changed in place; batch 1, of opset 16 or later, or it is left as it is.
    """
    if all(one.version < _OPSET for one in model.opset_import if one.domain in ("", "ai.onnx")):
        return
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    producers = {name: node for node in graph.node for name in node.output}
    sizes = _sizes(model)
    for last in list(graph.node):
        gather = producers.get(last.input[0]) if last.op_type == "Reshape" else None
        if gather is None or gather.op_type != "Gather" or gather.input[1] not in constants:
            continue
        first = producers.get(gather.input[0])
        if first is None or first.op_type != "Reshape":
            continue
        x, flat, y = (sizes.get(one) for one in (first.input[0], first.output[0], last.output[0]))
        source = numpy_helper.to_array(constants[gather.input[1]])
        if x is None or flat is None or y is None or len(x) != 4 or x[2:] != y[2:]:
            continue
        height, width = x[2:]
        positions = height * width
        axis = next((one.i for one in gather.attribute if one.name == "axis"), 0)
        if len(flat) != 3 or axis not in (2, -1) or source.shape != (positions,) != flat[2:]:
            continue
        name = f"{last.output[0]}.grid"
        graph.initializer.append(numpy_helper.from_array(_grid(source, height, width), name))
        sample = helper.make_node(
            "GridSample", [first.input[0], name], last.output, last.name, mode="nearest"
        )
        # The nodes before it stay for other readers; pnnx drops what nobody reads.
        last.CopyFrom(sample)


def _grid(source: np.ndarray, height: int, width: int) -> np.ndarray:
    """(1, H, W, 2) float32: x and y in [-1, 1] of the positions to copy from."""
    rows, columns = np.divmod(source % (height * width), width)
    middles = ((2 * columns + 1) / width - 1, (2 * rows + 1) / height - 1)
    return np.stack(middles, axis=-1).reshape(1, height, width, 2).astype(np.float32)


def _sizes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """Sizes of values as far as they are known; -1 where one is open."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {
        value.name: tuple(
            dim.dim_value if dim.HasField("dim_value") else -1
            for dim in value.type.tensor_type.shape.dim
        )
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }
