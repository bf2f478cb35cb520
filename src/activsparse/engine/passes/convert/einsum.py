"""Einsum of one or two values: transpositions around one product of matrices."""

from __future__ import annotations

import math
import string
from typing import NoReturn

from activsparse.engine.graph import Node
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.source import Source

__all__ = ["einsum"]

_REMEDY = "write it as transpositions and a MatMul"


def einsum(source: Source) -> list[Node]:
    """Einsum whose sums run over axes that both values have.

    Axes that both have and the result as well are batches, those that both have and the result has
    not are summed over; the others are rows of the first value and columns of the second.
    """
    terms, result = _axes(source)
    chain = Chain(source)
    values = [source.activation(index) for index in range(len(terms))]
    if len(values) == 1:
        one = _without(chain, values[0], terms[0], result)
        return chain.done(chain.transpose(one, [_kept(terms[0], result).index(x) for x in result]))
    if len(values) != 2:
        _refuse(source, f"it multiplies {len(values)} values")
    a, b = terms
    size = {
        axis: length
        for term, value in zip(terms, values, strict=True)
        for axis, length in zip(term, chain.shape(value), strict=True)
    }
    for term, value in zip(terms, values, strict=True):
        if any(size[axis] != n for axis, n in zip(term, chain.shape(value), strict=True)):
            _refuse(source, "one axis has different sizes in its values")
    batch = [axis for axis in result if axis in a and axis in b]
    rows = [axis for axis in result if axis in a and axis not in b]
    columns = [axis for axis in result if axis in b and axis not in a]
    summed = [axis for axis in a if axis in b and axis not in result]
    shapes = {
        name: math.prod(size[axis] for axis in axes)
        for name, axes in {"b": batch, "m": rows, "n": columns, "k": summed}.items()
    }
    left = _matrices(chain, values[0], a, [*batch, *rows, *summed])
    left = chain.reshape(left, (shapes["b"], shapes["m"], shapes["k"]))
    right = _matrices(chain, values[1], b, [*batch, *summed, *columns])
    right = chain.reshape(right, (shapes["b"], shapes["k"], shapes["n"]))
    product = chain.add("matmul", left, right, shape=(shapes["b"], shapes["m"], shapes["n"]))
    order = [*batch, *rows, *columns]
    product = chain.reshape(product, [size[axis] for axis in order])
    return chain.done(chain.transpose(product, [order.index(axis) for axis in result]))


def _axes(source: Source) -> tuple[list[str], str]:
    """A letter for each axis of each value, and those of the result."""
    equation = str(source.attribute("equation", "")).replace(" ", "")
    before, arrow, result = equation.partition("->")
    terms = before.split(",")
    shapes = [source.shape(index) for index in range(len(source.node.inputs))]
    if len(terms) != len(shapes):
        _refuse(source, f"its equation '{equation}' is of {len(terms)} values, not {len(shapes)}")
    free = [letter for letter in string.ascii_letters if letter not in equation]
    rest = [
        len(shape) - len(term.replace("...", ""))
        for term, shape in zip(terms, shapes, strict=True)
        if "..." in term
    ]
    if len(set(rest)) > 1 or any(count < 0 for count in rest):
        _refuse(source, "what '...' stands for differs between its values")
    dots = "".join(free[: rest[0]]) if rest else ""
    terms = [term.replace("...", dots) for term in terms]
    if not arrow:
        letters = "".join(terms)
        once = sorted(x for x in set(letters) if letters.count(x) == 1 and x not in dots)
        result = dots + "".join(once)
    result = result.replace("...", dots)
    for term, shape in zip(terms, shapes, strict=True):
        if len(term) != len(shape):
            _refuse(source, f"its equation '{equation}' does not fit a value of shape {shape}")
        if len(set(term)) < len(term):
            _refuse(source, f"its equation '{equation}' takes a diagonal")
    if len(set(result)) < len(result) or not set(result) <= set("".join(terms)):
        _refuse(source, f"its equation '{equation}' has a result of other axes")
    return terms, result


def _matrices(chain: Chain, value: str, axes: str, order: list[str]) -> str:
    kept = _without(chain, value, axes, "".join(order))
    names = _kept(axes, "".join(order))
    return chain.transpose(kept, [names.index(axis) for axis in order])


def _without(chain: Chain, value: str, axes: str, wanted: str) -> str:
    """The value without axes of size one that nobody wants; sums along others are refused."""
    shape = chain.shape(value)
    left = [n for axis, n in zip(axes, shape, strict=True) if axis in wanted]
    if math.prod(left) != math.prod(shape):
        _refuse(chain.source, "it sums along an axis that one value alone has")
    return value if len(left) == len(shape) else chain.reshape(value, left)


def _kept(axes: str, wanted: str) -> str:
    return "".join(axis for axis in axes if axis in wanted)


def _refuse(source: Source, problem: str) -> NoReturn:
    source.fail(problem, _REMEDY)
