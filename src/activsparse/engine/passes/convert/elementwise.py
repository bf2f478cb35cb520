"""Arithmetic with constants, and between two activations."""

from __future__ import annotations

import logging

import numpy as np
import numpy.typing as npt

from activsparse.engine.graph import Array, Node
from activsparse.engine.passes.convert import strided
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.source import Source

__all__ = ["add", "batch_normalization", "div", "mean", "mul", "neg", "sub", "total"]

_log = logging.getLogger(__name__)


def neg(source: Source) -> list[Node]:
    """Neg."""
    return _line(source, -1.0, 0.0)


def batch_normalization(source: Source) -> list[Node]:
    """BatchNormalization: scale = gamma / sqrt(var + eps), shift = beta - mean * scale."""
    if source.attribute("training_mode", 0):
        source.wrong("it is in training mode", "call model.eval() before exporting")
    gamma, beta, mean, var = (
        source.weights(i, what).astype(np.float64)
        for i, what in enumerate(("scale", "bias", "mean", "variance"), start=1)
    )
    if not source.attribute("spatial", 1):  # of opset 7 and 8
        source.fail(
            "it has a norm per position", "export with its attribute spatial as 1, or a newer opset"
        )
    if len(source.shape()) < 2:
        source.wrong(f"its input has shape {source.shape()}", "norms need a channel axis")
    for table in (gamma, beta, mean, var):
        if table.shape != source.shape()[1:2]:
            source.wrong(
                f"it has a table of shape {table.shape} for {source.shape()[1]} channels",
                "export the model again",
            )
    scale = gamma / np.sqrt(var + source.attribute("epsilon", 1e-5))
    channels = (1, -1) + (1,) * (len(source.shape()) - 2)
    shift = beta - mean * scale
    return _line(source, scale.reshape(channels), shift.reshape(channels))


def mul(source: Source) -> list[Node]:
    """Mul by a constant per channel or position, or of two activations."""
    index = _constant_operand(source)
    if index is None:
        return [_binary(source, "mul")]
    value = _operand(source, index)
    plane = _plane(source, value, 1 - index)
    if plane is None:
        return _line(source, _per_channel(source, index), 0.0, 1 - index)
    name = source.node.inputs[index]
    if not np.isfinite(plane).all():
        source.wrong(f"mask '{name}' holds NaN or infinite values", "a mask may hold 0 and 1 only")
    if not np.isin(plane, (0.0, 1.0)).all():
        if name.endswith(".activation_mask"):
            source.wrong(f"mask '{name}' holds values other than 0 and 1", "make the masks again")
        return _line(source, value, 0.0, 1 - index)
    if not plane.any():
        _log.warning(
            "%s: mask '%s' keeps no position, so that layer gives zeros only",
            source.graph.name,
            name,
        )
    return [
        source.engine_node(
            "mask_multiply",
            inputs=(source.activation(1 - index),),
            arrays={"mask": np.ascontiguousarray(plane, dtype=np.uint8)},
        )
    ]


def add(source: Source) -> list[Node]:
    """Add of a constant per channel, or of two activations."""
    index = _constant_operand(source)
    if index is None:
        return [_binary(source, "add")]
    return _line(source, 1.0, _per_channel(source, index), 1 - index)


def sub(source: Source) -> list[Node]:
    """Sub."""
    index = _constant_operand(source)
    if index is None:
        return strided.combine(source)
    value = _per_channel(source, index)
    if index == 1:
        return _line(source, 1.0, -value)
    return _line(source, -1.0, value, 1)


def div(source: Source) -> list[Node]:
    """Div by a constant, or of two activations."""
    index = _constant_operand(source)
    if index is None:
        return strided.combine(source)
    if index == 0:
        chain = Chain(source)
        inverse = chain.activate(source.activation(1), "reciprocal")
        return chain.done(chain.line(inverse, _per_channel(source, 0)))
    value = _per_channel(source, 1)
    if (value == 0).any():
        source.wrong("it divides by zero", "check the model")
    return _line(source, 1.0 / value, 0.0)


def total(source: Source) -> list[Node]:
    """Sum of any number of activations."""
    chain = Chain(source)
    return chain.done(_sum(source, chain))


def mean(source: Source) -> list[Node]:
    """Mean of any number of activations."""
    chain = Chain(source)
    return chain.done(chain.line(_sum(source, chain), 1 / len(source.node.inputs)))


def _sum(source: Source, chain: Chain) -> str:
    value = source.activation(0)
    for index in range(1, len(source.node.inputs)):
        other = source.activation(index)
        alike = chain.shape(value) == chain.shape(other) and len(chain.shape(value)) in (2, 4)
        value = chain.add("add", value, other) if alike else chain.combine("add", value, other)
    return value


def _constant_operand(source: Source) -> int | None:
    return next((i for i in (0, 1) if source.is_constant(i)), None)


def _operand(source: Source, index: int) -> Array:
    """A constant operand in float64, with an axis for each of the other operand's at least."""
    rank = len(source.shape(1 - index))
    value = source.constant(index, "operand")
    return value.astype(np.float64).reshape((1,) * (rank - value.ndim) + value.shape)


def _plane(source: Source, value: Array, activation: int) -> Array | None:
    """The (H, W) values of a constant that is equal in all channels but not in all positions."""
    shape = source.shape(activation)
    if not len(shape) == value.ndim == 4 or value.shape[:2] != (1, 1) or value.shape[2:] == (1, 1):
        return None
    try:
        return np.broadcast_to(value[0, 0], shape[2:])
    except ValueError:
        source.wrong(
            f"its constant is for maps of {_by(value.shape[2:])}, the layer's are {_by(shape[2:])}",
            "a mask belongs to one input size: use that, or mask the model again at this one",
        )


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def _per_channel(source: Source, index: int) -> Array:
    value = _operand(source, index)
    if not np.isfinite(value).all():
        name = source.node.inputs[index]
        source.wrong(f"constant '{name}' holds NaN or infinite values", "check the training run")
    return value


def _line(
    source: Source, scale: npt.ArrayLike, shift: npt.ArrayLike, activation: int = 0
) -> list[Node]:
    """X * scale + shift, with constants that repeat along any axes, as x does along theirs."""
    chain, x = Chain(source), source.activation(activation)
    if source.output_shape != source.shape(activation):
        x = chain.expand(x, source.output_shape)
    return chain.done(chain.line(x, scale, shift))


def _binary(source: Source, op: str) -> Node:
    """`add` or `mul` of images, one of which may repeat over positions (1x1) or over channels."""
    out = source.output_shape
    for shape in (source.shape(0), source.shape(1)):
        over_image = len(out) == 4 and shape == (*out[:2], 1, 1)
        over_channels = len(out) == 4 and shape == (out[0], 1, *out[2:])
        if not (len(out) in (2, 4) and (shape == out or over_image or over_channels)):
            return strided.combine(source)[0]
    return source.engine_node(op, inputs=(source.activation(0), source.activation(1)))
