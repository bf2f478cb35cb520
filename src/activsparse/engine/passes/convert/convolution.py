"""Conv and Pad."""

from __future__ import annotations

import math

import numpy as np

from activsparse.engine.graph import Node
from activsparse.engine.passes.convert.source import Source

__all__ = ["conv", "pad", "window"]


def window(source: Source, kernel: tuple[int, int], ceil_mode: bool = False) -> dict[str, int]:
    """Return strides, dilations and pads of a sliding window as the engine's attributes.

    `auto_pad` is resolved. With `ceil_mode` the pads at the end grow until the floor formula gives
    the output's size.
    """
    _, _, h, w = source.image_shape()
    strides = tuple(source.attribute("strides", (1, 1)))
    dilations = tuple(source.attribute("dilations", (1, 1)))
    pads = list(source.attribute("pads", (0, 0, 0, 0)))
    if len(strides) != 2 or len(dilations) != 2 or len(pads) != 4:
        source.fail("it does not have two spatial dimensions", "only 2-d images are supported")
    mode = source.attribute("auto_pad", "NOTSET")
    out = source.output_shape[2:]
    for axis, size in enumerate((h, w)):
        reach = (kernel[axis] - 1) * dilations[axis] + 1
        if mode in ("SAME_UPPER", "SAME_LOWER"):
            total = max((math.ceil(size / strides[axis]) - 1) * strides[axis] + reach - size, 0)
            small, large = total // 2, total - total // 2
            pads[axis], pads[axis + 2] = (small, large) if mode == "SAME_UPPER" else (large, small)
        elif mode == "VALID":
            pads[axis] = pads[axis + 2] = 0
        if ceil_mode:
            needed = (out[axis] - 1) * strides[axis] + reach - size - pads[axis]
            pads[axis + 2] = max(pads[axis + 2], needed)
    if min(pads) < 0:
        source.fail(f"it has negative pads {pads}", "crop with a smaller input instead")
    return {
        "stride_h": strides[0],
        "stride_w": strides[1],
        "dilation_h": dilations[0],
        "dilation_w": dilations[1],
        "pad_top": pads[0],
        "pad_left": pads[1],
        "pad_bottom": pads[2],
        "pad_right": pads[3],
    }


def conv(source: Source) -> list[Node]:
    """Conv with constant weight and bias."""
    weight = source.weights(1, "weight")
    if weight.ndim != 4:
        source.fail(f"its weight has shape {weight.shape}", "only 2-d convolutions are supported")
    kernel = tuple(source.attribute("kernel_shape", weight.shape[2:]))
    if kernel != weight.shape[2:]:
        source.fail(
            f"its kernel_shape is {kernel}, that of its weight {weight.shape[2:]}",
            "export the model again",
        )
    arrays = {"weight": weight}
    if source.has(2):
        arrays["bias"] = source.weights(2, "bias")
        if arrays["bias"].shape != weight.shape[:1]:
            source.fail(
                f"its bias has shape {arrays['bias'].shape} for {len(weight)} outputs",
                "use one bias per output",
            )
    attributes = window(source, (weight.shape[2], weight.shape[3]))
    attributes["group"] = int(source.attribute("group", 1))
    return [source.engine_node("conv", attributes, arrays=arrays, name=_layer_name(source))]


def _layer_name(source: Source) -> str:
    """The module's name, which torch leaves in the weight's name; else the node's own."""
    weight = source.node.inputs[1]
    return weight.removesuffix(".weight") if weight.endswith(".weight") else source.node.name


def pad(source: Source) -> list[Node]:
    """Zero padding of the image plane, for `fold_pad` to merge into a convolution."""
    shape = source.image_shape()
    mode = source.attribute("mode", "constant")
    value = source.setting("value", 2, 0.0)
    amounts = source.setting("pads", 1)
    if mode != "constant" or float(np.asarray(value).reshape(-1)[0]) != 0.0 or amounts is None:
        source.fail(f"padding mode '{mode}' or value is not zero padding", "pad with zeros")
    full = np.zeros(8, dtype=np.int64)
    if source.has(3):
        axes = [int(axis) % 4 for axis in source.constant(3, "axes")]
        for i, axis in enumerate(axes):
            full[axis], full[axis + 4] = amounts[i], amounts[i + len(axes)]
    else:
        full[:] = amounts
    if full[[0, 1, 4, 5]].any() or full.min() < 0:
        source.fail(f"pads {full.tolist()} of shape {shape}", "pad height and width only, by >= 0")
    if not full.any():  # nothing is added: another name for the same value
        return [source.engine_node("reshape")]
    names = ("pad_top", "pad_left", "pad_bottom", "pad_right")
    amounts_by_name = {name: int(full[i]) for name, i in zip(names, (2, 3, 6, 7), strict=True)}
    return [source.engine_node("pad", amounts_by_name)]
