"""Conv."""

from __future__ import annotations

import math

from activsparse.engine.graph import Node
from activsparse.engine.passes.convert.row import OF_A_ROW
from activsparse.engine.passes.convert.source import Source

__all__ = ["UNIT_WINDOW", "conv", "layer_name", "window"]

UNIT_WINDOW = {
    **dict.fromkeys(("stride_h", "stride_w", "dilation_h", "dilation_w"), 1),
    **dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), 0),
    "group": 1,
}
"""Attributes of a convolution 1x1."""


def window(source: Source, kernel: tuple[int, int], ceil_mode: bool = False) -> dict[str, int]:
    """Return strides, dilations and pads of a sliding window as the engine's attributes.

    `auto_pad` is resolved. With `ceil_mode` the pads at the end grow until the floor formula gives
    the output's size.
    """
    sizes, out = source.shape()[2:], source.output_shape[2:]
    strides = tuple(source.attribute("strides", (1,) * len(sizes)))
    dilations = tuple(source.attribute("dilations", (1,) * len(sizes)))
    pads = list(source.attribute("pads", (0, 0) * len(sizes)))
    if len(strides) != 2 or len(dilations) != 2 or len(pads) != 4 or len(sizes) != 2:
        source.fail("it does not have two spatial dimensions", "only 2-d images are supported")
    mode = source.attribute("auto_pad", "NOTSET")
    if mode.startswith("SAME") and max(dilations) > 1 and source.node.op.endswith("Pool"):
        # ONNX Runtime counts a pooling's window there as if it were not dilated.
        source.fail(
            f"it is dilated, and what its auto_pad {mode} means then engines disagree on",
            "write its pads out",
        )
    for axis, size in enumerate(sizes):
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
        source.fail(
            f"its weight has shape {weight.shape}", "only 1-d and 2-d convolutions are supported"
        )
    kernel = tuple(source.attribute("kernel_shape", weight.shape[2:]))
    if kernel != weight.shape[2:]:
        source.wrong(
            f"its kernel_shape is {kernel}, that of its weight {weight.shape[2:]}",
            "export the model again",
        )
    arrays = {"weight": weight}
    if source.has(2):
        arrays["bias"] = source.weights(2, "bias")
        if arrays["bias"].shape != weight.shape[:1]:
            source.wrong(
                f"its bias has shape {arrays['bias'].shape} for {len(weight)} outputs",
                "use one bias per output",
            )
    attributes = window(source, weight.shape[2:])
    attributes["group"] = int(source.attribute("group", 1))
    return [source.engine_node("conv", attributes, arrays=arrays, name=layer_name(source))]


def layer_name(source: Source) -> str:
    """The module's name, which torch leaves in the weight's name; else the node's own."""
    weight = source.node.inputs[1].removesuffix(OF_A_ROW)
    return weight.removesuffix(".weight") if weight.endswith(".weight") else source.node.name
