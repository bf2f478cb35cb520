"""Activations, arithmetic with constants, and arithmetic between two activations."""

from __future__ import annotations

import logging

import numpy as np

from activsparse.engine.graph import Array, Node
from activsparse.engine.passes.convert import strided
from activsparse.engine.passes.convert.source import Source

__all__ = [
    "add",
    "batch_normalization",
    "clip",
    "div",
    "hard_sigmoid",
    "hard_swish",
    "leaky_relu",
    "mul",
    "neg",
    "relu",
    "sigmoid",
    "sub",
    "tanh",
]

_log = logging.getLogger(__name__)


def relu(source: Source) -> list[Node]:
    """Relu."""
    return [source.engine_node("activate", {"activation": "relu"})]


def clip(source: Source) -> list[Node]:
    """Clip; the bounds are attributes before opset 11."""
    limits = []
    for index, (name, default) in enumerate((("min", -np.inf), ("max", np.inf)), start=1):
        value = source.setting(name, index, default)
        limits.append(float(value.reshape(-1)[0]))
    lo, hi = limits
    if not lo <= hi:
        source.fail(f"its bounds are {lo} and {hi}", "the lower one must come first")
    if (lo, hi) == (0.0, np.inf):
        return relu(source)
    return [source.engine_node("activate", {"activation": "clip", "lo": lo, "hi": hi})]


def hard_swish(source: Source) -> list[Node]:
    """HardSwish."""
    return [source.engine_node("activate", {"activation": "hardswish"})]


def sigmoid(source: Source) -> list[Node]:
    """Sigmoid."""
    return [source.engine_node("activate", {"activation": "sigmoid"})]


def tanh(source: Source) -> list[Node]:
    """Tanh."""
    return [source.engine_node("activate", {"activation": "tanh"})]


def leaky_relu(source: Source) -> list[Node]:
    """LeakyRelu: alpha * x where x is negative."""
    alpha = float(source.attribute("alpha", 0.01))
    return [source.engine_node("activate", {"activation": "leaky_relu", "lo": alpha})]


def neg(source: Source) -> list[Node]:
    """Neg."""
    return [_scale_shift(source, np.float64(-1.0), np.float64(0.0))]


def hard_sigmoid(source: Source) -> list[Node]:
    """HardSigmoid: clip(alpha * x + beta, 0, 1); the engine has an activation for alpha 1/6."""
    alpha, beta = source.attribute("alpha", 0.2), source.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return [source.engine_node("activate", {"activation": "hardsigmoid"})]
    line = _scale_shift(source, np.float32(alpha), np.float32(beta))
    return [line.with_attributes(activation="clip", lo=0.0, hi=1.0)]


def batch_normalization(source: Source) -> list[Node]:
    """BatchNormalization: scale = gamma / sqrt(var + eps), shift = beta - mean * scale."""
    if source.attribute("training_mode", 0):
        source.fail("it is in training mode", "call model.eval() before exporting")
    gamma, beta, mean, var = (
        source.weights(i, what).astype(np.float64)
        for i, what in enumerate(("scale", "bias", "mean", "variance"), start=1)
    )
    if not source.attribute("spatial", 1):  # of opset 7 and 8
        source.fail(
            "it has a norm per position", "export with its attribute spatial as 1, or a newer opset"
        )
    if len(source.shape()) < 2:
        source.fail(f"its input has shape {source.shape()}", "norms need a channel axis")
    scale = gamma / np.sqrt(var + source.attribute("epsilon", 1e-5))
    channels = (1, -1) + (1,) * (len(source.shape()) - 2)
    shift = beta - mean * scale
    return [_scale_shift(source, scale.reshape(channels), shift.reshape(channels))]


def mul(source: Source) -> list[Node]:
    """Mul by a constant per channel or position, or of two activations."""
    index = _constant_operand(source)
    if index is None:
        return [_binary(source, "mul")]
    value = _operand(source, index)
    plane = _plane(source, value, 1 - index)
    if plane is None:
        return [_scale_shift(source, _per_channel(source, index), np.float64(0.0), 1 - index)]
    name = source.node.inputs[index]
    if not np.isfinite(plane).all():
        source.fail(f"mask '{name}' holds NaN or infinite values", "a mask may hold 0 and 1 only")
    if not np.isin(plane, (0.0, 1.0)).all():
        if name.endswith(".activation_mask"):
            source.fail(f"mask '{name}' holds values other than 0 and 1", "make the masks again")
        return strided.affine(source, value, 0.0, 1 - index)
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
    return [_scale_shift(source, np.float64(1.0), _per_channel(source, index), 1 - index)]


def sub(source: Source) -> list[Node]:
    """Sub."""
    index = _constant_operand(source)
    if index is None:
        return strided.combine(source)
    value = _per_channel(source, index)
    if index == 1:
        return [_scale_shift(source, np.float64(1.0), -value)]
    return [_scale_shift(source, np.float64(-1.0), value, 1)]


def div(source: Source) -> list[Node]:
    """Div by a constant, or of two activations."""
    index = _constant_operand(source)
    if index is None:
        return strided.combine(source)
    if index == 0:
        source.fail("its dividend is a constant", "only division by constants is supported")
    value = _per_channel(source, 1)
    if (value == 0).any():
        source.fail("it divides by zero", "check the model")
    return [_scale_shift(source, 1.0 / value, np.float64(0.0))]


def _constant_operand(source: Source) -> int | None:
    return next((i for i in (0, 1) if source.is_constant(i)), None)


def _operand(source: Source, index: int) -> Array:
    """A constant operand in float64, with one axis per axis of the other operand."""
    rank = len(source.shape(1 - index))
    value = source.constant(index, "operand")
    if value.ndim > rank:
        source.fail(f"its constant has shape {value.shape}", "it may not have more axes than x")
    return value.astype(np.float64).reshape((1,) * (rank - value.ndim) + value.shape)


def _plane(source: Source, value: Array, activation: int) -> Array | None:
    """The (H, W) values of a constant that is equal in all channels but not in all positions."""
    shape = source.shape(activation)
    if len(shape) != 4 or value.shape[:2] != (1, 1) or value.shape[2:] == (1, 1):
        return None
    try:
        return np.broadcast_to(value[0, 0], shape[2:])
    except ValueError:
        source.fail(
            f"its constant is for maps of {_by(value.shape[2:])}, the layer's are {_by(shape[2:])}",
            "a mask belongs to one input size: use that, or mask the model again at this one",
        )


def _by(size: tuple[int, ...]) -> str:
    return "x".join(map(str, size))


def _per_channel(source: Source, index: int) -> Array:
    value = _operand(source, index)
    if not np.isfinite(value).all():
        name = source.node.inputs[index]
        source.fail(f"constant '{name}' holds NaN or infinite values", "check the training run")
    return value


def _scale_shift(source: Source, scale: Array, shift: Array, activation: int = 0) -> Node:
    """The node x * scale + shift: `scale_shift` where both are one value or one per channel."""
    shape = source.shape(activation)
    arrays = {}
    for name, value in (("scale", np.asarray(scale)), ("shift", np.asarray(shift))):
        per_channel = value.size == 1 or (
            value.ndim == len(shape) >= 2 and value.size == value.shape[1] == shape[1]
        )
        if not per_channel or source.output_shape != shape or len(shape) not in (2, 4):
            return strided.affine(source, scale, shift, activation)[0]
        arrays[name] = np.ascontiguousarray(
            np.broadcast_to(value.reshape(-1), (shape[1],)), dtype=np.float32
        )
    return source.engine_node("scale_shift", inputs=(source.activation(activation),), arrays=arrays)


def _binary(source: Source, op: str) -> Node:
    """`add` or `mul` of images, one of which may repeat over positions (1x1) or over channels."""
    out = source.output_shape
    for shape in (source.shape(0), source.shape(1)):
        over_image = len(out) == 4 and shape == (*out[:2], 1, 1)
        over_channels = len(out) == 4 and shape == (out[0], 1, *out[2:])
        if not (len(out) in (2, 4) and (shape == out or over_image or over_channels)):
            return strided.combine(source)[0]
    return source.engine_node(op, inputs=(source.activation(0), source.activation(1)))
