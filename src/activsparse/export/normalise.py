"""The masks of a model exported from torch, brought to the one form this project writes."""

from __future__ import annotations

import logging

import numpy as np
import onnx

from activsparse.export.convs import find_convs
from activsparse.export.graph import GraphIndex
from activsparse.export.insert import FoundMask, find_masks, insert_mask, remove_masks
from activsparse.masks import Mask, nearest_source

__all__ = ["normalise_masks"]

_log = logging.getLogger(__name__)


def normalise_masks(model: onnx.ModelProto) -> dict[str, Mask]:
    """Rewrite every mask as `insert_mask` does, changing `model`.

    torch names masks after the module that holds them, shares one constant among layers with equal
    masks, and writes sizes of the batch into the reshapes of fill `nearest`.

    Returns:
        Name of the convolution -> bool (OH, OW), in the order of execution.
    """
    index = GraphIndex(model.graph)
    sites: dict[str, tuple[str, tuple[int, int]]] = {}
    for conv in find_convs(model):
        if conv.shape is not None:
            sites[conv.norm_output] = "norm", conv.shape.output
            sites[conv.conv_output] = "conv", conv.shape.output
    rewritten = {}
    for found in find_masks(model.graph):
        mask = None
        if found.before in sites:
            site, size = sites[found.before]
            mask = _read(found, index, size)
        if mask is None:
            _log.warning("mask %s does not follow a convolution; left as it is", found.constant)
        else:
            rewritten[found.after] = found, site, mask

    remove_masks(model, [found for found, _, _ in rewritten.values()])
    masks = {}
    for conv in find_convs(model):
        for tensor in {conv.conv_output, conv.norm_output} & rewritten.keys():
            found, site, mask = rewritten[tensor]
            insert_mask(model, conv, mask, site, found.fill)
            masks[conv.name] = mask
    return masks


def _read(found: FoundMask, index: GraphIndex, size: tuple[int, int]) -> Mask | None:
    """The mask (OH, OW) a pattern of nodes stands for, None where `insert_mask` cannot write it."""
    constant = index.constant(found.constant)
    assert constant is not None
    value = onnx.numpy_helper.to_array(constant)
    if value.size != size[0] * size[1]:
        return None
    if found.fill == "zero":
        return np.asarray(value.reshape(size) != 0)
    mask: Mask = (value.ravel() == np.arange(value.size)).reshape(size)
    return mask if np.array_equal(nearest_source(mask), value.ravel()) else None
