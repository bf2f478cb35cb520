"""What the passes know of the engine's activations, defined in native/operators/epilogue.h."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from activsparse.engine.graph import Array, Node

__all__ = ["KEYS", "activation_of", "apply", "has_activation", "keeps_zero"]

KEYS = ("activation", "lo", "hi")


def _sigmoid(x: Array) -> Array:
    values: Array = 1.0 / (1.0 + np.exp(-np.clip(x, -500.0, 500.0)))
    return values


def _hard_sigmoid(x: Array) -> Array:
    values: Array = np.clip(x / 6.0 + 0.5, 0.0, 1.0)
    return values


def _erf(x: Array) -> Array:
    values: Array = np.vectorize(math.erf, otypes=[np.float64])(x)
    return values


def _softplus(x: Array) -> Array:
    values: Array = np.logaddexp(0.0, x)
    return values


def _gelu_tanh(x: Array) -> Array:
    values: Array = 0.5 * x * (1.0 + np.tanh(np.sqrt(2.0 / np.pi) * (x + 0.044715 * x**3)))
    return values


_FUNCTIONS: dict[str, Callable[[Array], Array]] = {
    "abs": np.abs,
    "ceil": np.ceil,
    "cos": np.cos,
    "erf": _erf,
    "exp": np.exp,
    "floor": np.floor,
    "gelu": lambda x: 0.5 * x * (1.0 + _erf(x / np.sqrt(2.0))),
    "gelu_tanh": _gelu_tanh,
    "hardsigmoid": _hard_sigmoid,
    "hardswish": lambda x: x * _hard_sigmoid(x),
    "log": np.log,
    "mish": lambda x: x * np.tanh(_softplus(x)),
    "reciprocal": lambda x: 1.0 / x,
    "round": np.rint,
    "sigmoid": _sigmoid,
    "sign": np.sign,
    "silu": lambda x: x * _sigmoid(x),
    "sin": np.sin,
    "softplus": _softplus,
    "sqrt": np.sqrt,
    "tanh": np.tanh,
    "truncate": np.trunc,
}


def activation_of(node: Node) -> dict[str, Any]:
    """Return the attributes that describe the node's activation."""
    return {key: node.attributes[key] for key in KEYS if key in node.attributes}


def has_activation(node: Node) -> bool:
    """Whether the node ends with an activation."""
    return bool(node.attributes.get("activation", "none") != "none")


def apply(attributes: Mapping[str, Any], x: Array) -> Array:
    """Evaluate the activation described by a node's attributes, elementwise in float64."""
    with np.errstate(all="ignore"):
        return _applied(attributes, np.asarray(x, dtype=np.float64))


def _applied(attributes: Mapping[str, Any], x: Array) -> Array:
    name = attributes.get("activation", "none")
    if name == "none":
        return x
    if name in ("relu", "clip"):
        lo = 0.0 if name == "relu" else attributes.get("lo", -np.inf)
        clipped: Array = np.clip(x, lo, attributes.get("hi", np.inf))
        return clipped
    if name == "leaky_relu":
        return x * np.where(x < 0, attributes.get("lo", 0.01), 1.0)
    if name == "elu":
        return np.where(x < 0, attributes.get("lo", 1.0) * np.expm1(np.minimum(x, 0.0)), x)
    return _FUNCTIONS[name](x)


def keeps_zero(node: Node) -> bool:
    """Whether the activation maps zero to zero: a mask may act before or after it."""
    return float(apply(node.attributes, np.zeros(1))[0]) == 0.0
