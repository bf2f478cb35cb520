"""The masks an ONNX file holds, as arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from activsparse.export.graph import GraphIndex
from activsparse.export.insert import MASK_SUFFIX, SOURCE_SUFFIX, find_masks
from activsparse.files import require_file
from activsparse.masks import Mask

__all__ = ["read_masks"]


def read_masks(model: str | Path) -> dict[str, Mask]:
    """Read the masks out of an ONNX file: layer name to bool map (OH, OW), True = computed.

    Where skipped positions are filled, those that hold their own value are the computed ones.
    """
    proto = onnx.shape_inference.infer_shapes(onnx.load(require_file(model)))
    sizes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*proto.graph.value_info, *proto.graph.output)
    }
    index = GraphIndex(proto.graph)
    masks = {}
    for found in find_masks(proto.graph):
        name = found.constant.removesuffix(MASK_SUFFIX).removesuffix(SOURCE_SUFFIX)
        tensor = index.constant(found.constant)
        if tensor is None or name == found.constant:
            continue
        value = onnx.numpy_helper.to_array(tensor)
        if found.fill == "zero":
            masks[name] = value[0, 0] != 0
        else:
            masks[name] = (value == np.arange(value.size)).reshape(sizes[found.after][-2:])
    return masks
