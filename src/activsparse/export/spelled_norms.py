"""Batch norms written as arithmetic: a scale and a shift per channel, as frozen ones export."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx

from activsparse.export.graph import GraphIndex, TensorType

__all__ = ["SpelledNorm", "spelled_norms"]


@dataclass(frozen=True)
class SpelledNorm:
    """A scale and a shift that stand for the norm of a convolution.

    Attributes:
        input, output: the tensors before and after.
        inner: the tensor between the two, which nothing else reads.
    """

    input: str
    output: str
    inner: str


def spelled_norms(
    graph: onnx.GraphProto, index: GraphIndex, types: Mapping[str, TensorType]
) -> Iterator[SpelledNorm]:
    """All of them: behind a convolution without a bias, which a norm makes superfluous.

    A convolution with one has been joined with its norm, or has none, and what follows is something
    else. A single value for all channels is no norm: activations such as HardSigmoid are spelled
    so.
    """
    for conv in graph.node:
        if conv.op_type != "Conv" or conv.domain or not conv.output or len(conv.input) > 2:
            continue
        data = str(conv.output[0])
        for scale in index.consumers.get(data, ()):
            if not _per_channel("Mul", scale, data, index, types):
                continue
            scaled = str(scale.output[0])
            shift = index.only_consumer(scaled)
            if shift is not None and _per_channel("Add", shift, scaled, index, types):
                yield SpelledNorm(data, str(shift.output[0]), scaled)


def _per_channel(
    op: str,
    node: onnx.NodeProto,
    data: str,
    index: GraphIndex,
    types: Mapping[str, TensorType],
) -> bool:
    """Whether a node takes `data` and a constant per channel."""
    if node.op_type != op or node.domain or len(node.input) != 2 or data not in node.input:
        return False
    other = node.input[1] if node.input[0] == data else node.input[0]
    constant = index.constant(other)
    shape = tuple(constant.dims) if constant is not None else types.get(other, (0, ()))[1]
    sizes = types.get(data, (0, ()))[1]
    rank = len(shape)
    return (
        index.is_fixed(other)
        and len(sizes) == 4
        and sizes[1] != 1
        and rank in (3, 4)
        and shape == (1, sizes[1], 1, 1)[4 - rank :]
    )
