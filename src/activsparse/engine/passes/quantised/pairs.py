"""What single `QuantizeLinear` and `DequantizeLinear` nodes say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from activsparse.engine.graph import Array, Graph, Node, Scale

__all__ = ["DEQUANTISE", "QUANTISE", "Weight", "scale_of", "weight_of"]

QUANTISE, DEQUANTISE = "QuantizeLinear", "DequantizeLinear"

_SHIFT = {np.dtype(np.uint8): 0, np.dtype(np.int8): 128}
"""From a file's eight bits to the engine's uint8."""


@dataclass(frozen=True)
class Weight:
    """A constant that a file holds quantised.

    Attributes:
        values: int8 or int32, the zero point subtracted.
        scale: float32, one for all or one for each index along the first axis.
    """

    values: Array
    scale: Array


def scale_of(graph: Graph, node: Node) -> Scale | None:
    """What the bytes that a node reads or writes stand for; None where bytes do not hold it."""
    if len(node.inputs) < 2 or node.inputs[1] not in graph.constants:
        return None
    scale = graph.constants[node.inputs[1]]
    zero: Array = np.zeros((), np.uint8)
    if len(node.inputs) > 2 and node.inputs[2]:
        if node.inputs[2] not in graph.constants:
            return None
        zero = graph.constants[node.inputs[2]]
    elif node.op == DEQUANTISE:
        zero = zero.astype(graph.dtypes.get(node.inputs[0], np.dtype(np.uint8)))
    if scale.size != 1 or scale.dtype != np.float32 or zero.size != 1 or zero.dtype not in _SHIFT:
        return None
    value = float(scale.reshape(-1)[0])
    if not 0 < value < np.inf:
        return None
    return Scale(value, int(zero.reshape(-1)[0]) + _SHIFT[zero.dtype])


def weight_of(graph: Graph, node: Node) -> Weight | None:
    """The constant that a `DequantizeLinear` makes float32; None where int8 does not hold it."""
    q, scale = (graph.constants.get(name) for name in node.inputs[:2])
    if q is None or scale is None or scale.dtype != np.float32 or scale.ndim > 1:
        return None
    zero: Any = graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
    axis = int(node.attributes.get("axis", 1)) % max(q.ndim, 1)
    if node.attributes.get("block_size", 0) or (scale.size > 1 and axis != 0):
        return None
    wide = q.astype(np.int64)
    if zero is not None:
        wide = wide - zero.astype(np.int64).reshape(
            -1, *[1] * (q.ndim - 1) if zero.size > 1 else ()
        )
    dtype = np.int32 if q.dtype == np.int32 else np.int8
    limits = np.iinfo(dtype)
    if (
        q.dtype.kind not in "iu"
        or wide.min(initial=0) < limits.min
        or wide.max(initial=0) > limits.max
    ):
        return None
    return Weight(wide.astype(dtype), scale.reshape(-1))
