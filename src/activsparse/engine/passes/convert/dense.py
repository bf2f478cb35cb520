"""Fully connected layers."""

from __future__ import annotations

import numpy as np

from activsparse.engine.graph import Array, Node
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.convolution import UNIT_WINDOW, layer_name
from activsparse.engine.passes.convert.source import Source

__all__ = ["gemm", "matmul"]


def _vector_input(source: Source) -> None:
    if len(source.shape()) != 2:
        source.fail(
            f"its input has shape {source.shape()}", "only (N, F) times a constant is supported"
        )


def gemm(source: Source) -> list[Node]:
    """Gemm with constant B and C: y = alpha * x B + beta * C."""
    _vector_input(source)
    if source.attribute("transA", 0):
        source.fail("its first operand is transposed", "transpose the weight instead")
    weight = source.weights(1, "weight")
    if not source.attribute("transB", 0):
        weight = weight.T
    alpha, beta = source.attribute("alpha", 1.0), source.attribute("beta", 1.0)
    arrays: dict[str, Array] = {
        "weight": np.ascontiguousarray(weight if alpha == 1.0 else weight * np.float32(alpha))
    }
    if source.has(2):
        bias = source.weights(2, "bias") * np.float32(beta)
        outputs = weight.shape[0]
        if bias.size not in (1, outputs) or bias.ndim > 2 or bias.shape[:-1] not in ((), (1,)):
            source.wrong(
                f"its bias has shape {bias.shape} for {outputs} outputs", "use one bias per output"
            )
        arrays["bias"] = np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), weight.shape[:1]))
    return [source.engine_node("gemm", arrays=arrays, name=layer_name(source))]


def matmul(source: Source) -> list[Node]:
    """MatMul with a constant matrix along the last axis, or of two values.

    The first is a fully connected layer where the value is a matrix, else a convolution 1x1.
    """
    if not source.is_constant(1) or source.is_constant(0) or len(source.shape(1)) != 2:
        return _product(source)
    shape = source.shape()
    if len(shape) == 1:
        source.fail(f"its input has shape {shape}", "give vectors a second axis")
    weight = source.weights(1, "weight")
    matrix = np.ascontiguousarray(weight.T)
    if len(shape) == 2:
        return [source.engine_node("gemm", arrays={"weight": matrix})]
    chain = Chain(source)

    def body(x: str) -> str:
        before = chain.shape(x)
        if len(before) == 2:
            shape = (before[0], len(matrix))
            return chain.add("gemm", x, shape=shape, arrays={"weight": matrix})
        return chain.add(
            "conv",
            x,
            shape=(before[0], len(matrix), *before[2:]),
            arrays={"weight": matrix[:, :, None, None]},
            name=layer_name(source),
            **UNIT_WINDOW,
        )

    return chain.done(chain.on_channels(source.activation(), body))


def _product(source: Source) -> list[Node]:
    """Batches of matrices, the batches repeating by ONNX's rules."""
    shapes = source.shape(0), source.shape(1)
    if min(map(len, shapes)) < 2:
        source.fail(f"it multiplies {shapes[0]} by {shapes[1]}", "give vectors a second axis")
    return [source.engine_node("matmul", inputs=(source.activation(0), source.activation(1)))]
