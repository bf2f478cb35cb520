"""What single `QuantizeLinear` and `DequantizeLinear` nodes say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from activsparse.engine.graph import Array, Graph, Node, NodeError, Scale

__all__ = ["DEQUANTISE", "QUANTISE", "Weight", "check_constant", "scale_of", "weight_of"]

QUANTISE, DEQUANTISE = "QuantizeLinear", "DequantizeLinear"

_SHIFT = {np.dtype(np.uint8): 0, np.dtype(np.int8): 128}
"""From a file's eight bits to the engine's uint8."""


_MOST_SCALE = 2.0**60
"""Products of two such scales still are float32 numbers."""


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
    if not 0 < value < _MOST_SCALE:
        return None
    return Scale(value, int(zero.reshape(-1)[0]) + _SHIFT[zero.dtype])


def check_constant(graph: Graph, node: Node) -> None:
    """Refuse a constant whose scales or zero points do not fit it.

    Raises:
        ActivsparseError: there are more or fewer than it has channels, or float32 holds no products
            of theirs.
    """
    q, *others = (graph.constants[name] for name in node.inputs if name)
    axis = int(node.attributes.get("axis", 1))
    wide = max((a.size for a in others), default=1) > 1
    if node.attributes.get("block_size", 0):
        return
    if wide and not -q.ndim <= axis < q.ndim:
        raise NodeError(
            node, f"{graph.name}: {node.title}: its values have no axis {axis}; export it again"
        )
    channels = q.shape[axis] if wide else 1
    for a in others:
        if a.size not in (1, channels):
            raise NodeError(
                node,
                f"{graph.name}: {node.title}: {a.size} scales or zero points for {channels} "
                "channels; export it again",
            )
    if others and np.abs(others[0]).max(initial=0) > _MOST_SCALE:
        raise NodeError(
            node,
            f"{graph.name}: {node.title}: a scale of {np.abs(others[0]).max():.3g} leaves "
            "float32; quantise the model again",
        )


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
