"""Functions of each element, as operators of their own and spelled out, behind convolutions too."""

from __future__ import annotations

import graphs
import numpy as np
import oracle
import pytest
from onnx import defs

from activsparse import Session

NEWEST = defs.onnx_opset_version()

# Operator, the operator set that has it, attributes to try.
OPERATORS = {
    "Abs": (7, [{}]),
    "Celu": (12, [{}, {"alpha": 0.5}, {"alpha": 3.0}]),
    "Elu": (7, [{}, {"alpha": 0.3}]),
    "Erf": (9, [{}]),
    "Exp": (7, [{}]),
    "Gelu": (20, [{}, {"approximate": "tanh"}]),
    "Mish": (18, [{}]),
    "Neg": (7, [{}]),
    "Reciprocal": (7, [{}]),
    "Selu": (7, [{}, {"alpha": 1.2, "gamma": 0.7}]),
    "Softplus": (7, [{}]),
    "Softsign": (7, [{}]),
    "Sqrt": (7, [{}]),
    "Swish": (24, [{}, {"alpha": 1.7}]),
    "Tanh": (7, [{}]),
}
SHAPES = [(2, 19), (1, 5, 7), (2, 17, 4, 5), (1, 2, 3, 4, 5)]


def opsets(since):
    return sorted(
        {since, max(since, 13), max(since, 18), max(since, 22)} & set(range(7, NEWEST + 1))
    )


@pytest.mark.parametrize("op", OPERATORS)
def test_operators(tmp_path, op):
    since, settings = OPERATORS[op]
    for seed, opset in enumerate(opsets(since)):
        for attributes in settings:
            b = graphs.Builder(seed, opset=opset)
            x = b.input(*SHAPES[seed % len(SHAPES)])
            path = b.save(tmp_path / "m.onnx", b.node(op, x, **attributes))
            oracle.check(path, context=(op, opset, attributes))


def constant(b, value):
    return b.constant(np.float32(value))


def gelu(b, x):
    half = b.node("Mul", x, constant(b, 0.5))
    erf = b.node("Erf", b.node("Div", x, constant(b, 2**0.5)))
    return b.node("Mul", half, b.node("Add", erf, constant(b, 1)))


def gelu_scaled_last(b, x):
    erf = b.node("Erf", b.node("Mul", x, constant(b, 0.5**0.5)))
    product = b.node("Mul", x, b.node("Add", constant(b, 1), erf, shape=b.shapes[x]))
    return b.node("Mul", product, constant(b, 0.5))


def gelu_tanh(cube):
    def spelled(b, x):
        inner = b.node("Mul", cube(b, x), constant(b, 0.044715))
        inner = b.node("Mul", b.node("Add", x, inner), constant(b, (2 / np.pi) ** 0.5))
        gate = b.node("Add", b.node("Tanh", inner), constant(b, 1))
        return b.node("Mul", b.node("Mul", x, constant(b, 0.5)), gate)

    return spelled


def mish(b, x):
    return b.node("Mul", x, b.node("Tanh", b.node("Softplus", x)))


SPELLED = {
    "gelu": gelu,
    "gelu, scaled last": gelu_scaled_last,
    "gelu by tanh of a power": gelu_tanh(lambda b, x: b.node("Pow", x, constant(b, 3))),
    "gelu by tanh of products": gelu_tanh(lambda b, x: b.node("Mul", x, b.node("Mul", x, x))),
    "mish": mish,
}


@pytest.mark.parametrize("form", SPELLED)
@pytest.mark.parametrize("opset", [9, 13, 18])
def test_spelled_out_behind_a_masked_convolution(tmp_path, form, opset):
    """They become the convolution's own activation, and its mask stays skipped work."""
    spelled = SPELLED[form]
    b = graphs.Builder(opset, opset=opset)
    x = b.mask(b.norm(b.conv(b.input(1, 5, 11, 12), 13)))
    y = b.conv(spelled(b, x), 8)
    path = b.save(tmp_path / "m.onnx", y)
    oracle.check(path, context=(form, opset))
    session = Session(path, tune=False)
    reports = [report for report in session.explain() if report.kind == "conv"]
    # Between them nothing is left; before and behind, the layout changes.
    assert [report.kind for report in session.explain()][1:-1] == ["conv", "conv"]
    assert reports[0].eligible, reports[0]


def test_what_else_reads_the_parts_of_an_activation_gets_them(tmp_path):
    b = graphs.Builder()
    x = b.node("Relu", b.input(1, 3, 4, 4))
    erf = b.node("Erf", b.node("Div", x, constant(b, 2**0.5)))
    y = b.node("Mul", b.node("Mul", x, constant(b, 0.5)), b.node("Add", erf, constant(b, 1)))
    oracle.check(b.save(tmp_path / "m.onnx", y, erf))


@pytest.mark.parametrize("slopes", [(), (1,), (5, 1, 1), (1, 5, 1, 1), (5, 6, 7), (7,)])
def test_prelu(tmp_path, slopes):
    b = graphs.Builder(len(slopes))
    x = b.input(2, 5, 6, 7)
    y = b.node("PRelu", x, b.constant(b.normal(*slopes)), shape=(2, 5, 6, 7))
    oracle.check(b.save(tmp_path / "m.onnx", y), context=slopes)


@pytest.mark.parametrize("exponent", [-2.0, -1.0, -0.5, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0])
def test_powers(tmp_path, exponent):
    b = graphs.Builder()
    x = b.node("Add", b.node("Abs", b.input(2, 5, 6, 7)), constant(b, 0.2))
    path = b.save(tmp_path / "m.onnx", b.node("Pow", x, constant(b, exponent)))
    oracle.check(path, context=exponent)


@pytest.mark.parametrize("op", ["Max", "Min", "Sum"])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_of_several_operands(tmp_path, op, count):
    b = graphs.Builder(count)
    x = b.input(2, 5, 6, 7)
    operands = [b.node("Relu", x), b.node("Tanh", x), b.node("Sigmoid", x)][:count]
    if op != "Sum" and count == 3:
        operands[1] = constant(b, 0.1)
    oracle.check(b.save(tmp_path / "m.onnx", b.node(op, *operands)), context=(op, count))


def test_a_constant_divided(tmp_path):
    b = graphs.Builder()
    x = b.node("Add", b.node("Abs", b.input(2, 5, 6, 7)), constant(b, 0.2))
    y = b.node("Div", b.constant(b.normal(5, 1, 1)), x, shape=(2, 5, 6, 7))
    oracle.check(b.save(tmp_path / "m.onnx", y))
