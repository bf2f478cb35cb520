"""Batch norms written as arithmetic: a scale and a shift per channel, as frozen ones export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from activsparse.export.graph import GraphIndex, TensorType

__all__ = ["SpelledNorm", "spelled_norms"]

_SCALES = ("Mul", "Div")
_SHIFTS = ("Add", "Sub")


@dataclass(frozen=True)
class SpelledNorm:
    """Scales and shifts that stand for the norm of a convolution.

    Attributes:
        input, output: the tensors before and after.
        inner: what the operations but the last give, which nothing else reads.
    """

    input: str
    output: str
    inner: tuple[str, ...]


def spelled_norms(
    graph: onnx.GraphProto, index: GraphIndex, types: Mapping[str, TensorType]
) -> list[SpelledNorm]:
    """All of them: at least one scale and one shift by constants of one value per channel.

    A single value for all channels is no norm: activations such as HardSigmoid are spelled so.
    """
    found = []
    for conv in graph.node:
        if conv.op_type != "Conv" or conv.domain or not conv.output:
            continue
        tensors, kinds = [str(conv.output[0])], set()
        while True:
            node = index.only_consumer(tensors[-1])
            if node is None or node.domain or not _per_channel(node, tensors[-1], index, types):
                break
            kinds.add(node.op_type in _SCALES)
            tensors.append(str(node.output[0]))
        if len(kinds) == 2:
            found.append(SpelledNorm(tensors[0], tensors[-1], tuple(tensors[1:-1])))
    return found


def _per_channel(
    node: onnx.NodeProto, data: str, index: GraphIndex, types: Mapping[str, TensorType]
) -> bool:
    """Whether a node scales or shifts `data` by a constant per channel."""
    if node.op_type not in (*_SCALES, *_SHIFTS) or len(node.input) != 2:
        return False
    first, second = node.input
    if first != data and (second != data or node.op_type in ("Div", "Sub")):
        return False
    other = second if first == data else first
    constant = index.constant(other)
    shape = tuple(constant.dims) if constant is not None else types.get(other, (0, ()))[1]
    sizes = types.get(data, (0, ()))[1]
    rank = len(shape)
    return (
        index.is_fixed(other)
        and len(sizes) == 4
        and rank in (3, 4)
        and shape == (1, sizes[1], 1, 1)[4 - rank :]
    )
