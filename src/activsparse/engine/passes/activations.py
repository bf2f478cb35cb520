"""What the passes know of the engine's activations, defined in native/operators/epilogue.h."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from activsparse.engine.graph import Array, Node

__all__ = ["KEYS", "activation_of", "apply", "has_activation", "keeps_zero"]

KEYS = ("activation", "lo", "hi")


def activation_of(node: Node) -> dict[str, Any]:
    """Return the attributes that describe the node's activation."""
    return {key: node.attributes[key] for key in KEYS if key in node.attributes}


def has_activation(node: Node) -> bool:
    """Whether the node ends with an activation."""
    return bool(node.attributes.get("activation", "none") != "none")


def apply(attributes: Mapping[str, Any], x: Array) -> Array:
    """Evaluate the activation described by a node's attributes, elementwise in float64."""
    x = np.asarray(x, dtype=np.float64)
    name = attributes.get("activation", "none")
    if name == "none":
        return x
    if name in ("relu", "clip"):
        lo = 0.0 if name == "relu" else attributes.get("lo", -np.inf)
        clipped: Array = np.clip(x, lo, attributes.get("hi", np.inf))
        return clipped
    if name == "leaky_relu":
        return x * np.where(x < 0, attributes.get("lo", 0.01), 1.0)
    sigmoid: Array = 1.0 / (1.0 + np.exp(-np.clip(x, -500.0, 500.0)))
    hard_sigmoid = np.clip(x / 6.0 + 0.5, 0.0, 1.0)
    return {
        "sigmoid": sigmoid,
        "silu": x * sigmoid,
        "hardsigmoid": hard_sigmoid,
        "hardswish": x * hard_sigmoid,
        "tanh": np.tanh(x),
    }[name]


def keeps_zero(node: Node) -> bool:
    """Whether the activation maps zero to zero: a mask may act before or after it."""
    return float(apply(node.attributes, np.zeros(1))[0]) == 0.0
