"""What torch's core operators do, in the terms of `masks.operations`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from activsparse.masks.operations import Kind

__all__ = ["kind_of"]

# Names without the underscores around them that say in place, or for the use of torch itself.
_KINDS = {
    Kind.SAME: (
        "alias", "alpha_dropout", "clone", "contiguous", "copy", "detach", "dropout",
        "feature_dropout", "lift_fresh", "native_dropout", "positive", "to_copy",
    ),
    Kind.ZERO: (
        "abs", "asin", "asinh", "atan", "atanh", "ceil", "celu", "elu", "erf", "expm1", "floor",
        "gelu", "hardshrink", "hardswish", "leaky_relu", "log1p", "mish", "neg", "prelu",
        "prelu_kernel", "relu", "relu6", "round", "rrelu_with_noise", "selu", "sign", "silu",
        "sin", "sinh", "softshrink", "sqrt", "square", "tan", "tanh", "trunc",
    ),
    Kind.POINT: (
        "acos", "acosh", "cos", "cosh", "exp", "hardsigmoid", "log", "log_sigmoid_forward",
        "reciprocal", "rsqrt", "rsub", "sigmoid", "softplus", "threshold",
    ),
    Kind.COMBINE: ("fmax", "fmin", "maximum", "minimum", "sub"),
    Kind.POOL: (
        "adaptive_avg_pool2d", "adaptive_max_pool2d", "addmm", "amax", "amin", "avg_pool2d",
        "baddbmm", "bmm", "einsum", "gru", "linalg_vector_norm", "linear", "logsumexp",
        "lstm", "matmul", "max",
        "max_pool2d_with_indices", "mean", "min", "mkldnn_linear", "mm", "mv", "norm", "prod",
        "scaled_dot_product_attention", "scaled_dot_product_flash_attention_for_cpu", "std", "sum",
        "var", "var_mean",
    ),
    Kind.RESIZE: (
        "upsample_bicubic2d", "upsample_bilinear2d", "upsample_bilinear2d_aa", "upsample_nearest2d",
        "upsample_nearest_exact2d",
    ),
    Kind.SLICE: (
        "chunk", "expand", "index_select", "narrow", "repeat", "select", "slice", "split",
        "split_with_sizes", "unbind",
    ),
    Kind.RESHAPE: (
        "flatten", "reshape", "reshape_alias", "squeeze", "unflatten", "unsafe_view", "unsqueeze",
        "view",
    ),
    Kind.PERMUTE: ("movedim", "permute", "t", "transpose"),
}  # fmt: skip
_KIND_OF = {operator: kind for kind, operators in _KINDS.items() for operator in operators}


_IsComputed = Callable[[Any], bool]


def kind_of(operator: str, args: Sequence[Any], is_computed: _IsComputed) -> Kind:
    """What a call does.

    Args:
        operator: name in torch's namespace `aten`.
        args: the positional ones.
        is_computed: whether the network computed one of them from its inputs.
    """
    name = operator.strip("_")
    special = _SPECIAL.get(name)
    if special is not None:
        return special(args, is_computed)
    if "batch_norm" in name:
        return Kind.NORM
    return _KIND_OF.get(name, Kind.OTHER)


def _add(args: Sequence[Any], is_computed: _IsComputed) -> Kind:
    # What a sum starts with where a branch is left out.
    return Kind.SAME if any(type(a) in (int, float) and a == 0 for a in args[:2]) else Kind.ADD


def _multiply(args: Sequence[Any], is_computed: _IsComputed) -> Kind:
    return Kind.SAME if any(type(a) in (int, float) and a == 1 for a in args[:2]) else Kind.MULTIPLY


def _convolution(args: Sequence[Any], is_computed: _IsComputed) -> Kind:
    weight, strides, transposed = args[1], args[3], args[6]
    if transposed:  # its windows overlap, or each position becomes several
        sizes = weight.shape[2:]
        overlap = any(size > stride for size, stride in zip(sizes, strides, strict=False))
        return Kind.POOL if overlap else Kind.OTHER
    return Kind.CONVOLUTION if args[0].ndim == 4 else Kind.OTHER


def _clamp(args: Sequence[Any], is_computed: _IsComputed) -> Kind:
    low, high = (*args[1:3], None, None)[:2]
    return _between(low, high)


def _clamp_max(args: Sequence[Any], is_computed: _IsComputed) -> Kind:
    return _between(None, args[1])


def _hardtanh(args: Sequence[Any], is_computed: _IsComputed) -> Kind:
    low, high = (*args[1:3], *(-1.0, 1.0)[len(args) - 1 :])[:2]
    return _between(low, high)


def _between(low: Any, high: Any) -> Kind:
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        return Kind.COMBINE
    return Kind.ZERO if (low is None or low <= 0) and (high is None or high >= 0) else Kind.POINT


def _pad(args: Sequence[Any], is_computed: _IsComputed) -> Kind:
    return Kind.ZERO if len(args) < 3 or not args[2] else Kind.OTHER


def _divide(args: Sequence[Any], is_computed: _IsComputed) -> Kind:
    by_constant = is_computed(args[0]) and not is_computed(args[1])
    return Kind.ZERO if by_constant else Kind.COMBINE


def _power(args: Sequence[Any], is_computed: _IsComputed) -> Kind:
    exponent = args[1]
    positive = isinstance(exponent, (int, float)) and exponent > 0
    return Kind.ZERO if positive else Kind.COMBINE


_SPECIAL: Mapping[str, Callable[[Sequence[Any], _IsComputed], Kind]] = {
    "add": _add,
    "clamp": _clamp,
    "clamp_max": _clamp_max,
    "clamp_min": _clamp,
    "constant_pad_nd": _pad,
    "convolution": _convolution,
    "div": _divide,
    "hardtanh": _hardtanh,
    "mul": _multiply,
    "pow": _power,
}
