"""Comparisons, logic and casts: whole numbers and truth values, held as float32."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from activsparse.engine.graph import Node
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.source import Source

__all__ = ["both", "cast", "comparison", "either", "one_of_two", "opposite"]


_INTEGERS = ("uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")


def comparison(function: str, swapped: bool = False) -> Callable[[Source], list[Node]]:
    """The converter of an operator that is the function `function` of `combine`."""

    def convert(source: Source) -> list[Node]:
        inputs = (source.activation(0), source.activation(1))
        inputs = inputs[::-1] if swapped else inputs
        return [source.engine_node("combine", {"function": function}, inputs=inputs)]

    return convert


def both(source: Source) -> list[Node]:
    """And."""
    return _combined(source, "multiply")


def either(source: Source) -> list[Node]:
    """Or."""
    return _combined(source, "maximum")


def one_of_two(source: Source) -> list[Node]:
    """Xor: the two differ."""
    chain = Chain(source)
    same = chain.combine("equal", source.activation(0), source.activation(1))
    return chain.done(chain.line(same, -1.0, 1.0))


def opposite(source: Source) -> list[Node]:
    """Not."""
    chain = Chain(source)
    return chain.done(chain.line(source.activation(), -1.0, 1.0))


def cast(source: Source) -> list[Node]:
    """Cast to float32, to truth values, and of floats to integers, which ONNX asks to fit."""
    import onnx

    wanted = onnx.helper.tensor_dtype_to_np_dtype(int(source.attribute("to", 0)))
    before = source.graph.dtypes.get(source.node.inputs[0], np.dtype(np.float32))
    chain, x = Chain(source), source.activation()
    if wanted == np.bool_ and before != np.bool_:
        zero = chain.constant(np.zeros((1,) * len(chain.shape(x))), (1,) * len(chain.shape(x)))
        return chain.done(chain.line(chain.combine("equal", x, zero), -1.0, 1.0))
    if wanted == np.float32 or np.can_cast(before, wanted):
        return chain.done(chain.reshape(x, chain.shape(x)))
    if before == np.float32 and wanted.name in _INTEGERS:
        return chain.done(chain.activate(x, "truncate"))
    source.fail(f"it casts {before} to {wanted}", "cast to float32, or to int64")


def _combined(source: Source, function: str) -> list[Node]:
    chain = Chain(source)
    return chain.done(chain.combine(function, source.activation(0), source.activation(1)))
