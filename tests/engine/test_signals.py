"""Networks on signals (N, C, L): every operator that images have, against ONNX Runtime."""

from __future__ import annotations

import graphs
import numpy as np
import onnx
import oracle
import pytest

from activsparse import Session


def conv(b, x, out, kernel, *, stride=1, dilation=1, group=1, pad=None):
    n, c, length = b.shapes[x]
    pad = kernel // 2 if pad is None else pad
    size = (length + 2 * pad - dilation * (kernel - 1) - 1) // stride + 1
    weight = b.normal(out, c // group, kernel) / np.float32((c // group * kernel) ** 0.5)
    inputs = (x, b.constant(weight), b.constant(b.normal(out)))
    how = {"strides": [stride], "dilations": [dilation], "group": group, "pads": [pad, pad]}
    return b.node("Conv", *inputs, shape=(n, out, size), **how)


def follow(b, y, kind):
    """One operator behind a convolution."""
    n, c, length = b.shapes[y]
    if kind == "MaxPool":
        return b.node("MaxPool", y, kernel_shape=[3], strides=[2], pads=[1, 1], ceil_mode=1)
    if kind == "AveragePool":
        return b.node("AveragePool", y, kernel_shape=[2], strides=[2], count_include_pad=1)
    if kind == "ConvTranspose":
        weight = b.constant(b.normal(c, 5, 4) / np.float32(c))
        return b.node("ConvTranspose", y, weight, strides=[2], pads=[1, 1], output_padding=[1])
    if kind.startswith("Resize"):
        mode = kind.split()[1]
        if b.rng.random() < 0.5:
            scales = (b.constant(np.array([1, 1, 2], np.float32)),)
        else:
            scales = ("", b.constant(np.array([n, c, 2 * length + 1], np.int64)))
        return b.node("Resize", y, "", *scales, mode=mode)
    if kind == "norm":
        return b.norm(y)
    if kind == "InstanceNormalization":
        return b.node(kind, y, b.constant(b.uniform(c)), b.constant(b.normal(c)))
    if kind == "PRelu":
        return b.node(kind, y, b.constant(b.normal(c, 1)))
    return b.node(kind, y)


KINDS = (
    *("AveragePool", "ConvTranspose", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"),
    *("InstanceNormalization", "PRelu", "Relu", "Resize linear", "Resize nearest", "norm"),
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_signals(tmp_path, kind, seed):
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    b = graphs.Builder(int(rng.integers(1 << 30)))
    x = b.input(int(rng.integers(1, 3)), 4, int(rng.integers(20, 90)))
    y = conv(b, x, 8, int(rng.choice([1, 3, 7])), stride=int(rng.integers(1, 3)))
    y = conv(b, b.node("Relu", y), 8, 3, dilation=2, pad=2, group=int(rng.choice([1, 8])))
    path = b.save(tmp_path / "m.onnx", follow(b, y, kind))
    oracle.check(path, context=(seed, kind, b.shapes[x]))


def test_axes_of_a_signal_that_is_resized(tmp_path):
    b = graphs.Builder(0, opset=18)
    y = conv(b, b.input(1, 4, 20), 8, 3)
    scales = b.constant(np.array([2.5], np.float32))
    oracle.check(b.save(tmp_path / "m.onnx", b.node("Resize", y, "", scales, axes=[2])))


def test_layers_of_signals_keep_their_names(tmp_path):
    b = graphs.Builder(0)
    path = b.save(tmp_path / "m.onnx", conv(b, b.input(1, 4, 20), 8, 3))
    model = onnx.load(path)
    weight = model.graph.node[0].input[1]
    model.graph.node[0].input[1] = "features.0.weight"
    next(t for t in model.graph.initializer if t.name == weight).name = "features.0.weight"
    onnx.save(model, path)
    assert "features.0" in [node.name for node in Session(path, tune=False).explain()]
