"""Reductions, paddings and rearrangements of any axes."""

from __future__ import annotations

import graphs
import numpy as np
import oracle
import pytest

from activsparse import ActivsparseError, Session, _native

REDUCTIONS = {
    "ReduceL1": 18,
    "ReduceL2": 18,
    "ReduceMax": 18,
    "ReduceMean": 18,
    "ReduceMin": 18,
    "ReduceProd": 18,
    "ReduceSum": 13,
}
"""By the operator set whose axes are an input."""


@pytest.mark.parametrize("op", REDUCTIONS)
@pytest.mark.parametrize("seed", range(8))
def test_reductions(tmp_path, op, seed):
    rng = np.random.default_rng(seed)
    b = graphs.Builder(seed, opset=int(rng.choice([7, 11, 13, 18, 22])))
    shape = [(2, 17, 5, 6), (2, 7, 9), (3, 40), (2, 3, 4, 5, 6)][seed % 4]
    axes = sorted(int(a) for a in rng.permutation(len(shape))[: rng.integers(1, len(shape) + 1)])
    keep = int(rng.integers(2))
    if len(axes) == len(shape):
        keep = 1
    kept = tuple(1 if i in axes else s for i, s in enumerate(shape) if keep or i not in axes)
    x = b.input(*shape)
    if seed % 4 == 0 and rng.random() < 0.5:
        x = b.conv(x, 17)
    if b.opset < REDUCTIONS[op]:
        y = b.node(op, x, shape=kept, axes=axes, keepdims=keep)
    else:
        y = b.node(op, x, b.constant(np.array(axes, np.int64)), shape=kept, keepdims=keep)
    path = b.save(tmp_path / "m.onnx", b.node("Tanh", y))
    for isa in _native.available_isas():
        oracle.check(path, context=(op, b.opset, shape, axes, keep, isa), isa=isa)


def test_over_all_axes(tmp_path):
    b = graphs.Builder(opset=13)
    oracle.check(b.save(tmp_path / "m.onnx", b.node("ReduceMax", b.input(2, 3, 4), keepdims=0)))


def padded(b, x, pads, mode, value=None):
    shape = tuple(
        s + p + q
        for s, p, q in zip(b.shapes[x], pads[: len(pads) // 2], pads[len(pads) // 2 :], strict=True)
    )
    if b.opset < 11:
        extra = {} if value is None else {"value": value}
        return b.node("Pad", x, shape=shape, pads=pads, mode=mode, **extra)
    inputs = [x, b.constant(np.array(pads, np.int64))]
    if value is not None:
        inputs.append(b.constant(np.float32(value)))
    return b.node("Pad", *inputs, shape=shape, mode=mode)


PADS = [
    ((2, 5, 6, 7), [0, 0, 1, 2, 0, 0, 3, 0], "constant", None),
    ((2, 5, 6, 7), [0, 0, 1, 2, 0, 0, 3, 0], "constant", -1.5),
    ((2, 5, 6, 7), [0, 3, 0, 0, 0, 4, 0, 0], "constant", None),
    ((2, 5, 6, 7), [1, 0, 2, 0, 0, 1, 0, 3], "constant", 0.5),
    ((2, 5, 6, 7), [0, 0, -1, 2, 0, 0, 3, -2], "constant", None),
    ((2, 5, 6), [0, 2, 1, 0, 0, 3], "constant", 2.0),
    ((2, 5), [0, 2, 0, 1], "constant", float("-inf")),
    ((2, 5, 6, 7), [0, 0, 5, 6, 0, 0, 5, 2], "reflect", None),
    ((2, 5, 6, 7), [0, 0, 8, 1, 0, 0, 3, 9], "edge", None),
]


@pytest.mark.parametrize(("shape", "pads", "mode", "value"), PADS)
@pytest.mark.parametrize("opset", [7, 13, 19])
def test_pads(tmp_path, shape, pads, mode, value, opset):
    b = graphs.Builder(opset, opset=opset)
    x = b.node("Relu", b.input(*shape))
    y = padded(b, x, pads, mode, value)
    path = b.save(tmp_path / "m.onnx", y)
    oracle.check(path, context=(shape, pads, mode, value, opset))
    if len(shape) == 4:
        path = b.save(tmp_path / "m.onnx", b.node("Sigmoid", b.conv(y, 7)))
        oracle.check(path, context=(shape, pads, mode, value, opset))


def test_zero_padding_before_a_pooling(tmp_path):
    b = graphs.Builder()
    y = padded(b, b.conv(b.input(1, 3, 8, 8), 8), [0, 0, 1, 1, 0, 0, 1, 1], "constant")
    y = b.node("AveragePool", y, kernel_shape=(3, 3), strides=(2, 2), shape=(1, 8, 4, 4))
    oracle.check(b.save(tmp_path / "m.onnx", b.conv(y, 5)))


def test_more_than_there_is_to_reflect_is_refused(tmp_path):
    b = graphs.Builder()
    path = b.save(
        tmp_path / "m.onnx", padded(b, b.input(1, 3, 4, 4), [0, 0, 4, 0, 0, 0, 0, 0], "reflect")
    )
    with pytest.raises(ActivsparseError, match="more than there are"):
        Session(path)


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
@pytest.mark.parametrize("opset", [11, 13])
def test_depth_to_space_and_back(tmp_path, mode, opset):
    b = graphs.Builder(opset, opset=opset)
    x = b.conv(b.input(2, 3, 4, 6), 24)
    y = b.node("DepthToSpace", x, blocksize=2, mode=mode, shape=(2, 6, 8, 12))
    z = b.node("SpaceToDepth", b.conv(y, 3), blocksize=2, shape=(2, 12, 4, 6))
    oracle.check(b.save(tmp_path / "m.onnx", y, b.conv(z, 4)), context=(mode, opset))


@pytest.mark.parametrize("indices", [[0, 1, 2], [2], [4, 0], [-1, -2, 3, 3], [[1, 2], [4, 0]]])
@pytest.mark.parametrize("axis", [0, 1, 2, 3])
def test_gather(tmp_path, indices, axis):
    b = graphs.Builder(axis)
    x = b.input(5, 6, 7, 8)
    y = b.node("Gather", x, b.constant(np.array(indices, np.int64)), axis=axis)
    oracle.check(b.save(tmp_path / "m.onnx", b.node("Relu", y)), context=(indices, axis))


@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (1, 5, 1, 1), (3, 2, 5, 6, 7), (5, 6, 7)])
def test_expand(tmp_path, shape):
    b = graphs.Builder(len(shape))
    x = b.node("Relu", b.input(2, 5, 1, 1) if shape[0] != 5 else b.input(1, 1, 7))
    whole = np.broadcast_shapes(b.shapes[x], shape)
    y = b.node("Expand", x, b.constant(np.array(shape, np.int64)), shape=whole)
    z = [b.conv(y, 4)] if len(whole) == 4 and min(whole[2:]) > 1 else []
    oracle.check(b.save(tmp_path / "m.onnx", y, *z), context=shape)


@pytest.mark.parametrize("group", [1, 4])
def test_a_convolution_along_one_axis(tmp_path, group):
    b = graphs.Builder(group)
    x = b.input(2, 4, 11)
    weight, bias = b.constant(b.normal(8, 4 // group, 3)), b.constant(b.normal(8))
    y = b.node("Conv", x, weight, bias, shape=(2, 8, 6), pads=[1, 1], strides=[2], group=group)
    oracle.check(b.save(tmp_path / "m.onnx", b.node("Relu", y)))


@pytest.mark.parametrize("shape", [(2, 5, 6, 7), (2, 5, 7), (2, 3, 4, 5, 7)])
def test_a_matrix_along_the_last_axis(tmp_path, shape):
    b = graphs.Builder(len(shape))
    y = b.node("MatMul", b.input(*shape), b.constant(b.normal(7, 9)), shape=(*shape[:-1], 9))
    oracle.check(b.save(tmp_path / "m.onnx", b.node("Add", y, b.constant(b.normal(9)))))


@pytest.mark.parametrize("op", ["Add", "Mul", "Sub", "Max", "Min"])
@pytest.mark.parametrize("sizes", [(5, 1, 7), (2, 1, 6, 1), (3, 1, 1, 1, 1), (1, 1, 1, 1, 1)])
def test_a_constant_of_any_shape(tmp_path, op, sizes):
    """It may repeat the value, and be repeated."""
    b = graphs.Builder(len(sizes), opset=13)
    x = b.input(1, 5, 6, 7)
    shape = np.broadcast_shapes((1, 5, 6, 7), sizes)
    for inputs in ((x, b.constant(b.normal(*sizes))), (b.constant(b.normal(*sizes)), x)):
        path = b.save(tmp_path / "m.onnx", b.node(op, *inputs, shape=shape))
        oracle.check(path, context=(op, sizes))


@pytest.mark.parametrize("axis", [0, 1, 2, 3])
@pytest.mark.parametrize("sizes", [(20,), (4, 5)])
def test_gather_of_many(tmp_path, axis, sizes):
    b = graphs.Builder(axis)
    x = b.input(5, 6, 7, 8)
    indices = b.rng.integers(-5, 5, sizes)
    y = b.node("Gather", x, b.constant(indices), axis=axis)
    oracle.check(b.save(tmp_path / "m.onnx", b.node("Relu", y)), context=(axis, indices))


@pytest.mark.parametrize("depth", [1, 2, 3, 4])
def test_gather_nd(tmp_path, depth):
    b = graphs.Builder(depth)
    indices = np.stack([b.rng.integers(-s, s, (4, 1, 3)) for s in (5, 6, 7, 8)[:depth]], axis=-1)
    y = b.node("GatherND", b.input(5, 6, 7, 8), b.constant(indices))
    oracle.check(b.save(tmp_path / "m.onnx", b.node("Relu", y)), context=indices)


@pytest.mark.parametrize("sizes", [(6, 7), (5, 1, 1), (2, 1, 1, 7), (2, 5, 6, 7), (1,)])
@pytest.mark.parametrize("kind", ["of a number", "otherwise a number", "of values", "of a plane"])
def test_where(tmp_path, sizes, kind):
    """What is not chosen does not count, NaN included."""
    b = graphs.Builder(len(sizes))
    x = b.input(2, 5, 6, 7)
    chosen = b.rng.random(sizes) < 0.5
    number, y = b.constant(np.float32(0.5)), b.node("Relu", x)
    pair = {
        "of a number": (number, x),
        "otherwise a number": (x, number),
        "of values": (x, y),
        "of a plane": (b.node("ReduceMean", x, b.constant(np.array([1])), shape=(2, 1, 6, 7)), x),
    }[kind]
    y = b.node("Where", b.constant(chosen), *pair, shape=(2, 5, 6, 7))
    path = b.save(tmp_path / "m.onnx", y)
    values = b.normal(2, 5, 6, 7)
    oracle.check(path, {"x": values}, context=(sizes, kind))
    values[0, 2, 3, 4] = np.nan
    oracle.check(path, {"x": values}, context=(sizes, kind, "NaN"))


@pytest.mark.parametrize("size", [(5, 5), (2, 3), (3, 7), (7, 7)])
def test_an_adaptive_pooling_as_torch_writes_it(tmp_path, size):
    """To 7x7 where windows differ: positions are picked, some left out, and the rest averaged."""
    torch = pytest.importorskip("torch")
    from activsparse.export.onnx import export_onnx

    conv = torch.nn.Conv2d(3, 5, 3, padding=1)
    model = torch.nn.Sequential(conv, torch.nn.AdaptiveAvgPool2d((7, 7))).eval()
    path = tmp_path / "m.onnx"
    export_onnx(model, torch.randn(2, 3, *size), path, verify=False)
    oracle.check(path, context=size)
