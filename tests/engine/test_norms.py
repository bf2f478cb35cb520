"""Layer, instance and group norms, as operators and spelled out, and response normalisation."""

from __future__ import annotations

import zlib

import graphs
import numpy as np
import oracle
import pytest
from onnx import defs

from activsparse import ActivsparseError, Session, _native

NEWEST = defs.onnx_opset_version()


def kinds(path):
    return [report.kind for report in Session(path, tune=False).explain()]


def layer_norm(b, x, axis=-1, **attributes):
    shape = b.shapes[x]
    tables = [b.constant(make(*shape[axis:])) for make in (b.uniform, b.normal)]
    return b.node("LayerNormalization", x, *tables, axis=axis, **attributes)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((3, 17), -1),
        ((2, 5, 24), -1),
        ((2, 5, 24), 1),
        ((2, 4, 5, 33), -1),
        ((2, 4, 5, 33), 3),
        ((2, 4, 5, 33), 1),
        ((2, 4, 5, 33), 2),
        ((1, 2, 3, 4, 5), -1),
        ((7,), 0),
    ],
)
def test_layer_norm(tmp_path, shape, axis):
    b = graphs.Builder(len(shape))
    path = b.save(tmp_path / "m.onnx", layer_norm(b, b.input(*shape), axis, epsilon=1e-3))
    for isa in _native.available_isas():
        oracle.check(path, context=(shape, axis, isa), isa=isa)


def test_without_a_bias(tmp_path):
    b = graphs.Builder()
    y = b.node("LayerNormalization", b.input(2, 5, 24), b.constant(b.uniform(24)))
    oracle.check(b.save(tmp_path / "m.onnx", y))


def transpose(b, x, *order):
    return b.node("Transpose", x, shape=tuple(b.shapes[x][i] for i in order), perm=order)


def dense(b, x, out):
    *outer, c = b.shapes[x]
    weight = b.constant(b.normal(c, out) / np.float32(c**0.5))
    y = b.node("MatMul", x, weight, shape=(*outer, out))
    return b.node("Add", y, b.constant(b.normal(out)))


def test_a_block_with_channels_last_has_no_transposition_left(tmp_path):
    """As in torchvision's ConvNeXt: it runs as convolutions with their activations."""
    b = graphs.Builder(opset=20)
    x = b.conv(b.input(1, 3, 12, 13), 24)
    y = b.mask(b.conv(x, 24, (7, 7), pads=(3, 3, 3, 3), group=24))
    y = layer_norm(b, transpose(b, y, 0, 2, 3, 1))
    y = dense(b, b.node("Gelu", dense(b, y, 96)), 24)
    y = b.node("Mul", y, b.constant(b.normal(24)))
    y = b.node("Add", transpose(b, y, 0, 3, 1, 2), x)
    path = b.save(tmp_path / "m.onnx", b.node("Relu", y))
    oracle.check(path)
    convolutions = ["conv"] * 2 + ["normalize"] + ["conv"] * 2
    assert kinds(path) in ([*convolutions, "to_nchw"], ["to_nhwc", *convolutions, "to_nchw"])


def test_tokens_of_an_image(tmp_path):
    b = graphs.Builder(1, opset=18)
    x = b.conv(b.input(2, 3, 4, 5), 24)
    tokens = b.node("Reshape", x, b.constant(np.array([2, 24, 20])), shape=(2, 24, 20))
    tokens = transpose(b, tokens, 0, 2, 1)
    tokens = dense(b, b.node("Relu", dense(b, layer_norm(b, tokens), 40)), 24)
    back = transpose(b, tokens, 0, 2, 1)
    back = b.node("Reshape", back, b.constant(np.array([2, 24, 4, 5])), shape=(2, 24, 4, 5))
    oracle.check(b.save(tmp_path / "m.onnx", b.node("Add", x, back)))


def mean(b, x, axes):
    shape = tuple(
        1 if i in [a % len(b.shapes[x]) for a in axes] else s for i, s in enumerate(b.shapes[x])
    )
    if b.opset < 18:
        return b.node("ReduceMean", x, shape=shape, axes=axes, keepdims=1)
    return b.node("ReduceMean", x, b.constant(np.array(axes, np.int64)), shape=shape, keepdims=1)


def spelled(b, x, axes, twice=False, square="Pow", inverse=False):
    deviation = b.node("Sub", x, mean(b, x, axes))
    other = b.node("Sub", x, mean(b, x, axes)) if twice else deviation
    if square == "Pow":
        squares = b.node("Pow", other, b.constant(np.float32(2)))
    else:
        squares = b.node("Mul", other, other)
    total = b.node("Add", mean(b, squares, axes), b.constant(np.float32(1e-5)))
    root = b.node("Sqrt", total)
    if inverse:
        return b.node("Mul", deviation, b.node("Reciprocal", root), shape=b.shapes[x])
    return b.node("Div", deviation, root, shape=b.shapes[x])


@pytest.mark.parametrize("axes", [[-1], [1], [2, 3], [1, 2, 3], [3], [-2, -1]])
@pytest.mark.parametrize("opset", [9, 13, 18])
def test_spelled_out(tmp_path, axes, opset):
    b = graphs.Builder(opset, opset=opset)
    options = {"twice": opset == 9, "square": "Mul" if opset == 13 else "Pow", "inverse": opset > 9}
    y = spelled(b, b.input(2, 17, 5, 6), axes, **options)
    y = b.node("Mul", y, b.constant(b.normal(17, 1, 1)))
    y = b.node("Add", y, b.constant(b.normal(17, 1, 1)))
    path = b.save(tmp_path / "m.onnx", y)
    oracle.check(path, context=(axes, opset))
    assert "normalize" in kinds(path)


def test_what_resembles_a_norm_is_computed_as_it_stands(tmp_path):
    """Squares of something else, another mean."""
    b = graphs.Builder()
    x = b.input(2, 7, 5, 6)
    deviation = b.node("Sub", x, mean(b, x, [1]))
    other = b.node("Sub", x, mean(b, x, [2, 3]))
    total = b.node("Add", mean(b, b.node("Mul", other, other), [1]), b.constant(np.float32(1e-5)))
    path = b.save(tmp_path / "m.onnx", b.node("Div", deviation, b.node("Sqrt", total)))
    oracle.check(path)
    assert "normalize" not in kinds(path)


@pytest.mark.parametrize("shape", [(1, 5, 6, 7), (2, 40, 9, 5), (2, 3, 50), (3, 17, 1, 8)])
def test_instance_norm(tmp_path, shape):
    b = graphs.Builder(len(shape))
    tables = (b.constant(b.uniform(shape[1])), b.constant(b.normal(shape[1])))
    y = b.node("InstanceNormalization", b.input(*shape), *tables, epsilon=1e-3)
    path = b.save(tmp_path / "m.onnx", y)
    for threads in (1, 2):
        oracle.check(path, context=(shape, threads), threads=threads)


@pytest.mark.parametrize("groups", [1, 4, 24])
@pytest.mark.parametrize("shape", [(2, 24, 7, 9), (1, 24, 11)])
def test_group_norm(tmp_path, groups, shape):
    b = graphs.Builder(groups, opset=21)
    tables = (b.constant(b.uniform(24)), b.constant(b.normal(24)))
    x = b.input(*shape)
    y = b.node("GroupNormalization", x, *tables, num_groups=groups, epsilon=1e-3)
    oracle.check(b.save(tmp_path / "m.onnx", b.node("Relu", y)), context=(groups, shape))


def exact(x, axes, scale, shift, epsilon):
    """The norm in double precision, of values as they are in float32."""
    x = x.astype(np.float64)
    deviation = x - x.mean(axes, keepdims=True)
    variance = (deviation**2).mean(axes, keepdims=True)
    return deviation / np.sqrt(variance + epsilon) * scale + shift


@pytest.mark.parametrize("norm", ["layer", "instance", "group"])
@pytest.mark.parametrize("mean", [0.0, 0.7, -1234.5, 3e7])
@pytest.mark.parametrize("spread", [0.0, 1e-6, 1.0])
@pytest.mark.parametrize("shape", [(2, 12, 1, 1), (1, 12, 5, 7), (1, 48, 30, 31)])
def test_values_nearly_alike_keep_their_digits(tmp_path, norm, mean, spread, shape):
    """They are divided by little, and so is what a mean loses to rounding."""
    seed = zlib.crc32(repr((norm, mean, spread, shape)).encode())
    b = graphs.Builder(seed, opset=21)
    c = shape[1]
    scale, shift = b.uniform(c), b.normal(c)
    x = b.input(*shape)
    data = (mean + spread * b.normal(*shape)).astype(np.float32)
    wide = data.astype(np.float64)
    tables = (b.constant(scale), b.constant(shift))
    if norm == "layer":
        y = transpose(b, x, 0, 2, 3, 1)
        y = b.node("LayerNormalization", y, *tables, epsilon=1e-5)
        want = exact(wide.transpose(0, 2, 3, 1), (3,), scale, shift, 1e-5)
    elif norm == "instance":
        y = b.node("InstanceNormalization", x, *tables, epsilon=1e-5)
        want = exact(wide, (2, 3), scale[:, None, None], shift[:, None, None], 1e-5)
    else:
        y = b.node("GroupNormalization", x, *tables, num_groups=3, epsilon=1e-5)
        flat = exact(wide.reshape(shape[0], 3, -1), (2,), 1, 0, 1e-5).reshape(shape)
        want = flat * scale[:, None, None] + shift[:, None, None]
    path = b.save(tmp_path / "m.onnx", y)
    for isa in _native.available_isas():
        got = Session(path, tune=False, isa=isa).run(data)
        # A group's mean is that of its channels' in float32, each half a last place off.
        off = 0 if norm == "layer" else np.spacing(np.float32(abs(mean))) / 2
        bound = 4e-6 * (1 + np.abs(want)) + off * scale.max() / np.sqrt(wide.var() + 1e-5)
        assert np.all(np.abs(got - want) <= bound), (seed, isa, np.abs(got - want).max())


@pytest.mark.parametrize("groups", [1, 4, 24])
@pytest.mark.parametrize("opset", [9, 18, 21])
def test_group_norm_as_torch_writes_it(tmp_path, groups, opset):
    b = graphs.Builder(groups, opset=opset)
    x = b.conv(b.input(2, 3, 7, 9), 24)
    cut = (2, groups, 24 // groups * 63)
    flat = b.node("Reshape", x, b.constant(np.array([2, groups, -1])), shape=cut)
    tables = (b.constant(np.ones(groups, np.float32)), b.constant(np.zeros(groups, np.float32)))
    normal = b.node("InstanceNormalization", flat, *tables)
    y = b.node("Reshape", normal, b.constant(np.array([2, 24, 7, 9])), shape=(2, 24, 7, 9))
    y = b.node("Mul", y, b.constant(b.uniform(24, 1, 1)))
    y = b.node("Relu", b.node("Add", y, b.constant(b.normal(24, 1, 1))))
    path = b.save(tmp_path / "m.onnx", y)
    oracle.check(path, context=(groups, opset))
    assert kinds(path)[-2:] == ["normalize", "to_nchw"]


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("beta", [0.75, 0.5, 1.0])
def test_response_normalisation(tmp_path, size, beta):
    b = graphs.Builder(size)
    y = b.node("LRN", b.input(2, 17, 5, 6), size=size, alpha=0.3, beta=beta, bias=2.0)
    oracle.check(b.save(tmp_path / "m.onnx", y), context=(size, beta))


@pytest.mark.parametrize("shape", [(0, 4), (3,), (4, 1), ()])
@pytest.mark.parametrize("at", range(4))
def test_a_batch_norm_with_other_tables_than_channels_is_refused(tmp_path, shape, at):
    b = graphs.Builder(0, 9)
    x = b.conv(b.input(1, 3, 8, 8), 4)
    tables = [b.constant(b.uniform(*(shape if at == i else (4,)))) for i in range(4)]
    path = b.save(tmp_path / "m.onnx", b.node("BatchNormalization", x, *tables))
    with pytest.raises(ActivsparseError, match=r"\(BatchNormalization\)"):
        Session(path)
