"""The masks an ONNX file holds, as arrays."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx

from activsparse.errors import ActivsparseError
from activsparse.export.graph import GraphIndex, tensor_types
from activsparse.export.insert import MASK_SUFFIX, SOURCE_SUFFIX, find_masks
from activsparse.export.model_file import read_model
from activsparse.masks import Mask

__all__ = ["read_masks"]


def read_masks(model: str | Path, every: bool = False) -> dict[str, Mask]:
    """Read the masks out of an ONNX file: layer name to bool map (OH, OW), True = computed.

    Where skipped positions are filled, those that hold their own value are the computed ones.

    Args:
        model: the file.
        every: those that others put there, too, by the name of the masked convolution's result.

    Raises:
        ActivsparseError: no such file, not a valid model, or a mask that does not fit its layer.
    """
    proto = read_model(model)
    types = tensor_types(proto, str(model))
    index = GraphIndex(proto.graph)
    masks: dict[str, Mask] = {}
    for found in find_masks(proto.graph):
        name = found.constant.removesuffix(MASK_SUFFIX).removesuffix(SOURCE_SUFFIX)
        tensor = index.constant(found.constant)
        if tensor is None or (name == found.constant and not every):
            continue
        name = found.conv if name == found.constant else name
        value = onnx.numpy_helper.to_array(tensor)
        if found.fill == "zero":
            kept = value[0, 0] != 0
        else:
            size = types.get(found.after, (0, ()))[1][-2:]
            if None in size or len(size) < 2 or math.prod(filter(None, size)) != value.size:
                raise ActivsparseError(
                    f"{model}: mask '{found.constant}' has {value.size} positions, its layer's map "
                    f"has sizes {size}; export the model again"
                )
            own = value.reshape(-1) == np.arange(value.size)
            kept = own.reshape([side for side in size if side is not None])
        masks[name] = kept & masks.get(name, kept)
    return masks
