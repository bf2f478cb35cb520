"""The rules of operators: spans in, spans out.

A rule takes (inputs, attributes, context) and returns the outputs. Operators without one are
evaluated by onnx's own reference, where their inputs are exact or the operator grows with them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from activsparse.engine.exact.rounding import Rounding, dequantise
from activsparse.engine.exact.span import Array, Span, increasing, linear
from activsparse.engine.exact.windows import average_pool, convolve, max_pool

__all__ = ["INCREASING", "RULES", "Call"]

_GROWING = """
AveragePool Celu Ceil Concat Elu Erf Exp Expand Flatten Floor Gather GlobalAveragePool GlobalMaxPool
HardSigmoid Identity LeakyRelu Log Max MaxPool Mean Min Pad ReduceMax ReduceMean ReduceMin ReduceSum
Relu Reshape Resize Round Selu Sigmoid Slice Softplus Softsign Split Sqrt Squeeze Sum Tanh Tile
Transpose Unsqueeze Upsample DepthToSpace SpaceToDepth Dropout
"""
INCREASING = frozenset(_GROWING.split())
"""Operators that grow with every input (slopes of LeakyRelu and Elu taken for positive)."""


@dataclass(frozen=True)
class Call:
    """One node, as a rule sees it.

    Attributes:
        inputs: None where one is left out.
        attributes: by name.
        outputs: their names.
        rounding: how to round.
        opset: of the standard operators.
    """

    inputs: Sequence[Span | None]
    attributes: Mapping[str, Any]
    outputs: Sequence[str]
    rounding: Rounding
    opset: int

    def at(self, index: int) -> Span:
        """An input that must be there."""
        found = self.inputs[index] if index < len(self.inputs) else None
        if found is None:
            raise ValueError(f"input {index} is left out")
        return found

    def array(self, index: int) -> Array | None:
        """An exact input, or None."""
        found = self.inputs[index] if index < len(self.inputs) else None
        return None if found is None else found.low


Rule = Callable[[Call], list[Span]]


def _quantise(call: Call) -> list[Span]:
    scale, zero = np.asarray(call.array(1)), call.array(2)
    if zero is None:
        zero = np.zeros(scale.shape, _type_of(call.attributes.get("output_dtype", 0)))
    axis, block = call.attributes.get("axis", 1), call.attributes.get("block_size", 0)
    return [call.rounding.quantise(call.at(0), scale, zero, axis, call.outputs[0], block)]


def _type_of(onnx_type: int) -> Any:
    import onnx

    return onnx.helper.tensor_dtype_to_np_dtype(onnx_type) if onnx_type else np.uint8


def _dequantise(call: Call) -> list[Span]:
    scale, zero = np.asarray(call.array(1)), call.array(2)
    if zero is None:
        zero = np.zeros(scale.shape, np.int64)
    axis, block = call.attributes.get("axis", 1), call.attributes.get("block_size", 0)
    return [dequantise(call.at(0), scale, zero, axis, block)]


def _conv(call: Call) -> list[Span]:
    x, weight = call.at(0), call.at(1)
    if x.low.ndim != 4:
        raise ValueError("not of images")
    y = linear(lambda a, b: convolve(a, b, call.attributes), x, weight)
    bias = call.array(2)
    return [y if bias is None else _shifted(y, bias[:, None, None])]


def _shifted(x: Span, by: Array) -> Span:
    return x.each(lambda values: values + by)


def _matmul(call: Call) -> list[Span]:
    return [linear(np.matmul, call.at(0), call.at(1))]


def _gemm(call: Call) -> list[Span]:
    a = call.attributes

    def product(x: Array, weight: Array) -> Array:
        left = x.T if a.get("transA", 0) else x
        right = weight.T if a.get("transB", 0) else weight
        return np.asarray(left @ right)

    alpha, beta = a.get("alpha", 1.0), a.get("beta", 1.0)
    y = linear(product, call.at(0), call.at(1))
    if alpha != 1:
        y = _times(y, Span.of(np.float64(alpha)))
    bias = call.array(2)
    return [y if bias is None else _shifted(y, beta * bias.astype(np.float64))]


def _add(call: Call) -> list[Span]:
    return increasing(lambda a, b: [a + b], [call.at(0), call.at(1)])


def _subtract(call: Call) -> list[Span]:
    a, b = call.at(0), call.at(1)
    low = a.low - b.high
    return [Span.of(low) if a.exact and b.exact else Span(low, a.high - b.low)]


def _times(a: Span, b: Span) -> Span:
    if a.exact and b.exact:
        return Span.of(a.low * b.low)
    corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    return Span(np.minimum.reduce(corners), np.maximum.reduce(corners))


def _multiply(call: Call) -> list[Span]:
    a, b = call.at(0), call.at(1)
    return [_square(a) if call.inputs[0] is call.inputs[1] else _times(a, b)]


def _square(x: Span) -> Span:
    product = _times(x, x)
    return product if x.exact else Span(np.maximum(product.low, 0), product.high)


def _divide(call: Call) -> list[Span]:
    a, b = call.at(0), call.at(1)
    if a.low.dtype.kind != "f":
        raise ValueError("of integers")
    if not b.exact and not ((b.low > 0) | (b.high < 0)).all():
        raise ValueError("by a range that holds zero")
    inverse = Span.of(1 / b.low) if b.exact else Span(1 / b.high, 1 / b.low)
    return [_times(a, inverse)]


def _clip(call: Call) -> list[Span]:
    low, high = call.array(1), call.array(2)
    if call.opset < 11:
        low, high = call.attributes.get("min"), call.attributes.get("max")
    x = call.at(0)
    if low is None and high is None:
        return [x]
    return [x.each(lambda v: np.clip(v, low, high).astype(v.dtype))]


def _swish_like(function: Callable[[Array], Array], lowest_at: float) -> Rule:
    """A rule for a function that falls, has one minimum, and grows from there on."""

    def rule(call: Call) -> list[Span]:
        x = call.at(0)
        if x.exact:
            return [Span.of(function(x.low))]
        ends = function(x.low), function(x.high)
        least = np.minimum(*ends)
        bottom = function(np.float64(lowest_at))
        holds = (x.low < lowest_at) & (x.high > lowest_at)
        return [Span(np.where(holds, bottom, least), np.maximum(*ends))]

    return rule


def _hardswish(x: Array) -> Array:
    return np.asarray(x * np.clip(x / 6 + 0.5, 0, 1))


def _sigmoid(x: Array) -> Array:
    return np.asarray(np.exp(-np.logaddexp(0, -x)))


def _softmax(call: Call) -> list[Span]:
    x = call.at(0)
    axis = call.attributes.get("axis", -1 if call.opset >= 13 else 1)
    axes: Any = axis
    if call.opset < 13:
        axes = tuple(range(axis % x.low.ndim, x.low.ndim))
    top = x.high.max(axes, keepdims=True)
    low, high = np.exp(x.low - top), np.exp(x.high - top)
    if x.exact:
        return [Span.of(low / low.sum(axes, keepdims=True))]
    others_high = high.sum(axes, keepdims=True) - high
    others_low = low.sum(axes, keepdims=True) - low
    return [Span(low / (low + others_high), high / (high + others_low))]


def _images_only(function: Callable[[Array, Mapping[str, Any]], Array]) -> Rule:
    def rule(call: Call) -> list[Span]:
        if call.at(0).low.ndim != 4 or len(call.outputs) != 1:
            raise ValueError("not of images")
        return [call.at(0).each(lambda x: function(x, call.attributes))]

    return rule


def _global_average(call: Call) -> list[Span]:
    axes = tuple(range(2, call.at(0).low.ndim))
    return [call.at(0).each(lambda x: x.mean(axes, keepdims=True))]


def _cast(call: Call) -> list[Span]:
    target = np.dtype(_type_of(call.attributes["to"]))
    wide = np.dtype(np.float64) if target.kind == "f" else target
    return [call.at(0).each(lambda x: x.astype(wide))]


def _quantised(rule: Rule, operands: int, weight_first: int | None = None) -> Rule:
    """A rule of the QLinear operators: `operands` triples, then the result's scale and zero."""

    def quantised(call: Call) -> list[Span]:
        triples = [_real(call, 3 * i, axis=0 if i == weight_first else 1) for i in range(operands)]
        scale, zero = _target(call, 3 * operands)
        rest = [None if s is None else s for s in call.inputs[3 * operands + 2 :]]
        if weight_first is not None and rest and rest[0] is not None:  # int32, in products' units
            units = np.asarray(call.array(1)) * np.asarray(call.array(4)).reshape(-1)
            rest[0] = rest[0].each(lambda b: b.astype(np.float64) * units)
        real = Call([*triples, *rest], call.attributes, call.outputs, call.rounding, call.opset)
        (y,) = rule(real)
        return [call.rounding.quantise(y, scale, zero, 1, call.outputs[0])]

    return quantised


def _real(call: Call, index: int, axis: int = 1) -> Span:
    """The real values of a triple (value, scale, zero point) of inputs."""
    scale = np.asarray(call.array(index + 1))
    zero = call.array(index + 2)
    zero = np.zeros(scale.shape, np.int64) if zero is None else zero
    return dequantise(call.at(index), scale, zero, axis)


def _target(call: Call, index: int) -> tuple[Array, Array]:
    scale, zero = np.asarray(call.array(index)), call.array(index + 1)
    return scale, np.zeros((), np.uint8) if zero is None else zero


def _qlinear_matmul(call: Call) -> list[Span]:
    weight_scale = np.asarray(call.array(4))
    axis = call.at(3).low.ndim - 1 if weight_scale.size > 1 else 1
    y = linear(np.matmul, _real(call, 0), _real(call, 3, axis))
    scale, zero = _target(call, 6)
    return [call.rounding.quantise(y, scale, zero, 1, call.outputs[0])]


def _qlinear_concat(call: Call) -> list[Span]:
    scale, zero = _target(call, 0)
    parts: list[Span | None] = [_real(call, i) for i in range(2, len(call.inputs), 3)]
    axis = call.attributes["axis"]
    (y,) = increasing(lambda *arrays: [np.concatenate(arrays, axis)], parts)
    return [call.rounding.quantise(y, scale, zero, 1, call.outputs[0])]


def _qgemm(call: Call) -> list[Span]:
    scales = np.asarray(call.array(1)) * np.asarray(call.array(4)) * call.attributes.get("alpha", 1)
    across = 0 if call.attributes.get("transB", 0) else 1
    bias = call.array(6)
    inputs: list[Span | None] = [_real(call, 0), _real(call, 3, across)]
    if bias is not None:
        inputs.append(Span.of(bias.astype(np.float64) * scales))
    attributes = {**call.attributes, "beta": 1.0}
    (y,) = _gemm(Call(inputs, attributes, call.outputs, call.rounding, call.opset))
    if call.array(7) is None:
        return [y]
    scale, zero = _target(call, 7)
    return [call.rounding.quantise(y, scale, zero, 1, call.outputs[0])]


def _leaky(call: Call) -> list[Span]:
    slope = call.attributes.get("alpha", 0.01)
    return [call.at(0).each(lambda x: np.where(x < 0, slope * x, x))]


def _each(function: Callable[[Array], Array]) -> Rule:
    return lambda call: [call.at(0).each(function)]


def _global_average_of_any_layout(call: Call) -> list[Span]:
    if call.attributes.get("channels_last", 0):
        raise ValueError("images with channels last")
    return _global_average(call)


_FLOAT: dict[str, Rule] = {
    "QuantizeLinear": _quantise,
    "DequantizeLinear": _dequantise,
    "Conv": _conv,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "Add": _add,
    "Sub": _subtract,
    "Mul": _multiply,
    "Div": _divide,
    "Clip": _clip,
    "Relu": _each(lambda x: np.maximum(x, 0).astype(x.dtype)),
    "Sigmoid": _each(_sigmoid),
    "LeakyRelu": _leaky,
    "HardSwish": _swish_like(_hardswish, -1.5),
    "Softmax": _softmax,
    "MaxPool": _images_only(max_pool),
    "AveragePool": _images_only(average_pool),
    "GlobalAveragePool": _global_average,
    "Cast": _cast,
}

RULES: dict[tuple[str, str], Rule] = {
    **{("", name): rule for name, rule in _FLOAT.items()},
    ("", "QLinearConv"): _quantised(_conv, 2, weight_first=1),
    ("", "QLinearMatMul"): _qlinear_matmul,
    **{("com.microsoft", name): _FLOAT[name] for name in ("QuantizeLinear", "DequantizeLinear")},
    ("com.microsoft", "QLinearAdd"): _quantised(_add, 2),
    ("com.microsoft", "QLinearMul"): _quantised(_multiply, 2),
    ("com.microsoft", "QLinearSigmoid"): _quantised(_FLOAT["Sigmoid"], 1),
    ("com.microsoft", "QLinearLeakyRelu"): _quantised(_leaky, 1),
    ("com.microsoft", "QLinearSoftmax"): _quantised(_softmax, 1),
    ("com.microsoft", "QLinearAveragePool"): _quantised(_FLOAT["AveragePool"], 1),
    ("com.microsoft", "QLinearGlobalAveragePool"): _quantised(_global_average_of_any_layout, 1),
    ("com.microsoft", "QLinearConcat"): _qlinear_concat,
    ("com.microsoft", "QGemm"): _qgemm,
}
"""By domain and name."""
