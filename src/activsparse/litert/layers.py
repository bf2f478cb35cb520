"""The convolutions of a .tflite file: their multiply-adds, and the masks behind them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Layer", "layers_of"]

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV")

# A quantised mask is off by the rounding of its scale.
_TOLERANCE = 1e-4


@dataclass
class Layer:
    """A convolution.

    Attributes:
        macs: multiply-adds without masks.
        kept: bool (H*W) of what its masks let through, None where there is none.
        fills: of each mask, `zero` or `nearest`.
    """

    macs: int
    kept: npt.NDArray[np.bool_] | None = None
    fills: list[str] = field(default_factory=list)


def layers_of(interpreter: Any) -> list[Layer]:
    """Find convolutions and masks in a file, in the order of execution.

    A mask is a MUL by a constant (1, H, W, 1) of zeros and ones, or a GATHER along the positions
    that lets some hold the values of others.

    Args:
        interpreter: a LiteRT interpreter without delegates, its tensors allocated.
    """
    nodes = interpreter._get_ops_details()
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    written = {i for node in nodes for i in node["outputs"]}
    given = written | {detail["index"] for detail in interpreter.get_input_details()}
    behind: dict[int, Layer] = {}  # of a value, the convolution that it comes from
    layers = []
    for node in nodes:
        inputs = [int(i) for i in node["inputs"] if i >= 0]
        values = [i for i in inputs if i in given]
        before = next((behind[i] for i in values if i in behind), None)
        if node["op_name"] in _CONVOLUTIONS:
            before = Layer(_macs(node, details))
            layers.append(before)
        elif before is not None:
            constants = [i for i in inputs if i not in given]
            _note_mask(before, node, [_real(interpreter, details[i]) for i in constants])
        if before is not None:
            behind |= {int(i): before for i in node["outputs"]}
    return layers


def _macs(node: Any, details: Any) -> int:
    """Filters are (O, KH, KW, I), of depthwise ones (1, KH, KW, C)."""
    transposed = node["op_name"] == "TRANSPOSE_CONV"  # reads the result's size, filters, values
    filters = [int(size) for size in details[int(node["inputs"][1])]["shape"]]
    value = node["inputs"][2] if transposed else node["outputs"][0]
    elements = math.prod(int(size) for size in details[int(value)]["shape"])
    if node["op_name"] == "DEPTHWISE_CONV_2D":
        return elements * math.prod(filters[1:3])
    return elements * math.prod(filters[:3] if transposed else filters[1:])


def _real(interpreter: Any, detail: Any) -> npt.NDArray[Any]:
    value = np.asarray(interpreter.get_tensor(detail["index"]))
    scale, zero = detail["quantization"]
    return (value.astype(np.float64) - zero) * scale if scale and value.dtype.kind == "i" else value


def _note_mask(layer: Layer, node: Any, constants: list[npt.NDArray[Any]]) -> None:
    if len(constants) != 1:
        return
    values = constants[0]
    if (
        node["op_name"] == "MUL"
        and values.ndim == 4
        and values.size == math.prod(values.shape[1:3])
    ):
        kept = values.reshape(-1) != 0
        known = np.abs(values.reshape(-1)[kept] - 1).max(initial=0) <= _TOLERANCE
        if not known or values.size == 1 or kept.all() or not kept.any():
            return
        fill = "zero"
    elif node["op_name"] == "GATHER" and values.ndim == 1 and values.dtype.kind == "i":
        kept = values == np.arange(values.size)
        if kept.all() or not kept[values % values.size].all():
            return
        fill = "nearest"
    else:
        return
    same = layer.kept is not None and layer.kept.shape == kept.shape
    layer.kept = layer.kept & kept if same and layer.kept is not None else kept
    layer.fills.append(fill)
