"""Masks on their way from torch into an ONNX graph.

torch's exporter spreads a mask over nodes and constants, and its folding passes rewrite those as
they see fit, by sizes among other things. So it is given one node of our own per mask, which no
pass knows, and the mask itself is written here, from what the model holds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from activsparse.export.convs import OnnxConv, find_convs
from activsparse.export.graph import tensor_types
from activsparse.export.insert import FoundMask, insert_mask, remove_masks
from activsparse.masks import Mask
from activsparse.train.sparsify.hooks import HeldMask

__all__ = ["place_mask", "write_masks"]

_DOMAIN = "activsparse"


def place_mask(layer: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
    """A hook that leaves a node with the layer's name for its mask, for torch's exporter only."""

    def hook(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        return torch.onnx.ops.symbolic(
            f"{_DOMAIN}::Mask",
            (output,),
            {"layer": layer},
            dtype=output.dtype,
            shape=output.shape,
            version=1,
        )

    return hook


def write_masks(model: onnx.ModelProto, held: Mapping[str, HeldMask]) -> dict[str, Mask]:
    """Put the masks `held` where `place_mask` left nodes for them, changing `model`.

    Args:
        model: of torch's exporter.
        held: by name of the convolution.

    Returns:
        The masks written, in the order of execution. A convolution that runs several times has
        further ones under its nodes' names.
    """
    places = [node for node in model.graph.node if node.domain == _DOMAIN]
    layers = {
        node.output[0]: onnx.helper.get_node_attr_value(node, "layer").decode() for node in places
    }
    remove_masks(
        model,
        [FoundMask((node,), node.input[0], node.output[0], "", "zero", "") for node in places],
    )
    for entry in [entry for entry in model.opset_import if entry.domain == _DOMAIN]:
        model.opset_import.remove(entry)

    names = {}
    for conv in find_convs(model):
        names[conv.conv_output] = names[conv.norm_output] = conv.name
    types = tensor_types(model)
    masks: dict[str, Mask] = {}
    for tensor in [t for node in model.graph.node for t in node.output if t in layers]:
        layer = layers[tensor]
        name = layer if layer not in masks else names.get(tensor, tensor)
        dtype = types.get(tensor, (onnx.TensorProto.FLOAT, ()))[0]
        site = OnnxConv(name, "", tensor, tensor, None, 0, "layer", None, dtype)
        insert_mask(model, site, held[layer].mask, fill=held[layer].fill)
        masks[name] = held[layer].mask
    return masks
