"""Functions of each element."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from activsparse.engine.graph import Node
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.source import Source

__all__ = [
    "celu",
    "clip",
    "elu",
    "function",
    "gelu",
    "hard_sigmoid",
    "leaky_relu",
    "power",
    "prelu",
    "relu",
    "selu",
    "softsign",
    "swish",
    "thresholded_relu",
]


def function(name: str) -> Callable[[Source], list[Node]]:
    """The converter of an operator that is one of the engine's activations."""
    return lambda source: [source.engine_node("activate", {"activation": name})]


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
        source.wrong(f"its bounds are {lo} and {hi}", "the lower one must come first")
    if (lo, hi) == (0.0, np.inf):
        return relu(source)
    return [source.engine_node("activate", {"activation": "clip", "lo": lo, "hi": hi})]


def leaky_relu(source: Source) -> list[Node]:
    """LeakyRelu: alpha * x where x is negative."""
    alpha = float(source.attribute("alpha", 0.01))
    return [source.engine_node("activate", {"activation": "leaky_relu", "lo": alpha})]


def hard_sigmoid(source: Source) -> list[Node]:
    """HardSigmoid: clip(alpha * x + beta, 0, 1); the engine has an activation for alpha 1/6."""
    alpha, beta = source.attribute("alpha", 0.2), source.attribute("beta", 0.5)
    if abs(alpha - 1 / 6) < 1e-6 and beta == 0.5:
        return [source.engine_node("activate", {"activation": "hardsigmoid"})]
    chain = Chain(source)
    line = chain.line(source.activation(), alpha, beta)
    return chain.done(chain.activate(line, "clip", lo=0.0, hi=1.0))


def gelu(source: Source) -> list[Node]:
    """Gelu, exact or by tanh."""
    by_tanh = source.attribute("approximate", "none") == "tanh"
    return [source.engine_node("activate", {"activation": "gelu_tanh" if by_tanh else "gelu"})]


def elu(source: Source) -> list[Node]:
    """Elu: alpha * (exp(x) - 1) where x is negative."""
    alpha = float(source.attribute("alpha", 1.0))
    return [source.engine_node("activate", {"activation": "elu", "lo": alpha})]


def selu(source: Source) -> list[Node]:
    """Selu: gamma times elu."""
    chain = Chain(source)
    alpha = float(source.attribute("alpha", 1.6732632423543772))
    scaled = chain.activate(source.activation(), "elu", lo=alpha)
    return chain.done(chain.line(scaled, source.attribute("gamma", 1.0507009873554805)))


def celu(source: Source) -> list[Node]:
    """Celu: alpha * elu(x / alpha)."""
    chain = Chain(source)
    alpha = float(source.attribute("alpha", 1.0))
    if not alpha > 0:
        source.wrong(f"its alpha is {alpha:g}", "it must be above zero")
    curve = chain.activate(chain.line(source.activation(), 1 / alpha), "elu", lo=1.0)
    return chain.done(chain.line(curve, alpha))


def swish(source: Source) -> list[Node]:
    """Swish: x * sigmoid(alpha * x)."""
    alpha = float(source.attribute("alpha", 1.0))
    if alpha == 1:
        return [source.engine_node("activate", {"activation": "silu"})]
    chain, x = Chain(source), source.activation()
    gate = chain.activate(chain.line(x, alpha), "sigmoid")
    return chain.done(chain.combine("multiply", x, gate))


def softsign(source: Source) -> list[Node]:
    """Softsign: x / (1 + |x|)."""
    chain, x = Chain(source), source.activation()
    return chain.done(chain.combine("divide", x, chain.line(chain.activate(x, "abs"), 1.0, 1.0)))


def thresholded_relu(source: Source) -> list[Node]:
    """ThresholdedRelu: x where it is above alpha, else 0."""
    chain, x = Chain(source), source.activation()
    ones = (1,) * len(source.shape())
    alpha = chain.constant(np.full(ones, source.attribute("alpha", 1.0)), ones)
    zero = chain.constant(np.zeros(ones), ones)
    above = chain.combine("greater", x, alpha)
    return chain.done(chain.select(above, x, zero))


def prelu(source: Source) -> list[Node]:
    """PRelu with constant slopes: max(x, 0) + slope * min(x, 0)."""
    slope, x = source.weights(1, "slope"), source.activation()
    if source.output_shape != source.shape():
        source.fail(
            f"its slopes of shape {slope.shape} repeat {source.shape()}", "use one per channel"
        )
    if slope.size == 1:
        attributes = {"activation": "leaky_relu", "lo": float(slope.reshape(-1)[0])}
        return [source.engine_node("activate", attributes)]
    shape = source.shape()
    per_channel = slope.ndim >= len(shape) - 1 and slope.shape[1 - len(shape)] == slope.size
    if len(shape) in (2, 4) and per_channel and slope.size == shape[1]:
        return [source.engine_node("prelu", arrays={"slope": slope.reshape(-1)})]
    chain = Chain(source)
    negative = chain.line(chain.activate(x, "clip", lo=-math.inf, hi=0.0), slope)
    return chain.done(chain.add("add", negative, chain.activate(x, "relu")))


def power(source: Source) -> list[Node]:
    """Pow with a constant exponent."""
    exponent = source.constant(1, "exponent")
    if exponent.size != 1:
        source.fail(f"it has {exponent.size} exponents", "use one for all elements")
    chain, x = Chain(source), source.activation()
    value = float(exponent.reshape(-1)[0])
    return chain.done(x if value == 1 else chain.power(x, value))
