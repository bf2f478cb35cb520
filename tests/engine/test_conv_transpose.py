"""Transposed convolutions as ordinary ones, of every geometry."""

from __future__ import annotations

import graphs
import numpy as np
import onnx
import oracle
import pytest

from activsparse import ActivsparseError, Session


def transposed(b, x, out, kernel, bias=True, **attributes):
    group = attributes.get("group", 1)
    c = b.shapes[x][1]
    weight = b.normal(c, out // group, *kernel) / np.float32((c * kernel[0] * kernel[1]) ** 0.5)
    inputs = [x, b.constant(weight)]
    if bias:
        inputs.append(b.constant(b.normal(out)))
    return b.node("ConvTranspose", *inputs, **attributes)


@pytest.mark.parametrize("seed", range(60))
def test_random_geometries(tmp_path, seed):
    rng = np.random.default_rng(seed)
    b = graphs.Builder(seed, opset=int(rng.choice([7, 11, 13, 22])))
    group = int(rng.choice([1, 1, 2, 4]))
    x = b.input(
        int(rng.integers(1, 3)), group * int(rng.integers(1, 9)), *map(int, rng.integers(1, 9, 2))
    )
    strides, dilations = ([int(v) for v in rng.choice([1, 2, 2, 3, 4], 2)] for _ in range(2))
    if rng.random() < 0.6:
        dilations = [1, 1]
    kernel = tuple(int(k) for k in rng.integers(1, 6, 2))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    extra = [int(rng.integers(0, s)) for s in strides]
    pads = []
    for _ in range(2):
        for axis in (0, 1):
            size = (b.shapes[x][2 + axis] - 1) * strides[axis] + reach[axis]
            pads.append(int(rng.integers(0, min(reach[axis], max(size // 3, 1)))))
    attributes = {"strides": strides, "dilations": dilations, "group": group, "pads": pads}
    if rng.random() < 0.5:
        attributes["output_padding"] = extra
    out = group * int(rng.integers(1, 20))
    y = transposed(b, x, out, kernel, rng.random() < 0.7, **attributes)
    path = b.save(tmp_path / "m.onnx", b.node("Relu", y) if rng.random() < 0.5 else y)
    oracle.check(path, context=(seed, b.shapes[x], out, kernel, attributes))


@pytest.mark.parametrize("seed", range(40))
def test_tiny_maps_whose_pads_cut_off_most(tmp_path, seed):
    """Taps, and all of a phase, may lie beside the input for every output."""
    rng = np.random.default_rng(seed)
    b = graphs.Builder(seed)
    x = b.input(1, 3, *map(int, rng.integers(1, 3, 2)))
    strides, dilations, kernel = (rng.integers(1, most, 2) for most in (4, 4, 6))
    whole = strides * (np.array(b.shapes[x][2:]) - 1) + (kernel - 1) * dilations + 1
    cut = [int(rng.integers(0, size)) for size in whole]  # one position is left at least
    before = [int(rng.integers(0, size + 1)) for size in cut]
    pads = [*before, *(all_of - size for all_of, size in zip(cut, before, strict=True))]
    group = int(rng.choice([1, 3]))
    attributes = {"strides": strides.tolist(), "dilations": dilations.tolist(), "pads": pads}
    y = transposed(b, x, 6, tuple(map(int, kernel)), group=group, **attributes)
    path = b.save(tmp_path / "m.onnx", y)
    oracle.check(path, context=(seed, b.shapes[x], kernel, group, attributes))


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("kernel", [(2, 3), (4, 5)])
def test_automatic_pads(tmp_path, mode, kernel):
    b = graphs.Builder()
    x = b.input(1, 5, 6, 7)
    y = transposed(b, x, 7, kernel, strides=[2, 3], auto_pad=mode)
    oracle.check(b.save(tmp_path / "m.onnx", y), context=(mode, kernel))


@pytest.mark.parametrize("size", [[12, 14], [13, 15], [11, 13]])
def test_a_given_size(tmp_path, size):
    b = graphs.Builder()
    x = b.input(1, 5, 6, 7)
    y = transposed(b, x, 7, (3, 3), strides=[2, 2], output_shape=size)
    oracle.check(b.save(tmp_path / "m.onnx", y), context=size)


def test_a_decoder(tmp_path):
    """Between convolutions, and joined with what it goes beside."""
    b = graphs.Builder()
    x = b.input(1, 3, 16, 12)
    skip = b.node("Relu", b.conv(x, 16))
    low = b.node("Relu", b.conv(skip, 32, strides=(2, 2)))
    up = transposed(b, low, 16, (2, 2), strides=[2, 2])
    b.shapes[up] = (1, 16, 16, 12)
    y = b.conv(b.node("Concat", up, skip, axis=1, shape=(1, 32, 16, 12)), 8)
    path = b.save(tmp_path / "m.onnx", y)
    for threads in (1, 2):
        oracle.check(path, threads=threads)
    kinds = [report.kind for report in Session(path, tune=False).explain()]
    assert kinds.count("conv") == 4, kinds  # phases that do not overlap are one


def test_a_weight_of_other_channels_is_refused(tmp_path):
    b = graphs.Builder()
    x = b.input(1, 4, 6, 7)
    y = b.node("ConvTranspose", x, b.constant(b.normal(4, 3, 2, 2)), group=3)
    path = b.save(tmp_path / "m.onnx", y)
    with pytest.raises(ActivsparseError) as error:
        Session(path)
    assert "\n" not in str(error.value)
    assert onnx.load(path).graph.node[0].name in str(error.value)


@pytest.mark.parametrize("seed", range(24))
def test_what_follows_by_channel_becomes_part_of_the_convolutions(tmp_path, seed):
    """A bias, a norm and an activation of the interleaved image, in any order; not past a mask."""
    rng = np.random.default_rng(seed)
    b = graphs.Builder(seed)
    x = b.input(int(rng.integers(1, 3)), 6, *map(int, rng.integers(4, 9, 2)))
    stride = int(rng.integers(2, 4))
    kernel = int(rng.integers(stride, stride + 3))
    out, group = int(rng.choice([1, 2, 5, 20])), 1
    if out % 2 == 0 and rng.random() < 0.3:
        group = 2
    n, _, *size = b.shapes[x]
    shape = (n, out, *((side - 1) * stride + kernel for side in size))
    y = transposed(b, x, out, (kernel, kernel), strides=[stride] * 2, group=group, shape=shape)
    row = [str(kind) for kind in rng.permutation(["bias", "norm", "mask"])]
    if rng.random() < 0.5:
        row.remove("mask")
    for kind in row:
        if kind == "bias":
            y = b.node("Add", y, b.constant(b.normal(1, out, 1, 1).astype(np.float32)))
        elif kind == "norm":
            y = b.norm(y)
        else:
            y = b.mask(y, 0.4)
    last = str(rng.choice(["Relu", "Sigmoid", "Tanh", "PRelu", "none"]))
    if last == "PRelu":
        y = b.node("PRelu", y, b.constant(b.normal(out, 1, 1).astype(np.float32)))
    elif last != "none":
        y = b.node(last, y)
    path = b.save(tmp_path / "m.onnx", y)
    oracle.check(path, context=(seed, b.shapes[x], stride, kernel, out, group, row, last))
    kinds = [node.kind for node in Session(path, tune=False).explain()]
    if "mask" not in row:
        assert not {"scale_shift", "activate"}.intersection(kinds), kinds
