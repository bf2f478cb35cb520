"""Results of one channel (depth, saliency, text maps), which leave as they are computed."""

from __future__ import annotations

import graphs
import numpy as np
import oracle
import pytest

from activsparse import Session

KINDS = ("add", "convolution", "masked", "multiply", "norm", "pool", "sigmoid", "upsample")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(4))
def test_results_of_one_channel(tmp_path, kind, seed):
    rng = np.random.default_rng([seed, KINDS.index(kind)])
    b = graphs.Builder(seed)
    sides = map(int, rng.integers(5, 30, 2))
    x = b.input(int(rng.integers(1, 3)), int(rng.choice([1, 3, 16, 40])), *sides)
    kernel, stride = int(rng.choice([1, 3, 5])), int(rng.integers(1, 3))
    y = b.conv(x, 1, (kernel,) * 2, strides=(stride,) * 2, pads=(kernel // 2,) * 4)
    n, _, *size = b.shapes[y]
    if kind == "add":
        y = b.node("Add", y, b.conv(y, 1))
    elif kind == "masked":
        y = b.mask(y)
    elif kind == "multiply":
        y = b.node("Mul", y, b.node("Sigmoid", b.conv(y, 1)))
    elif kind == "norm":
        y = b.norm(y)
    elif kind == "pool":
        y = b.node("MaxPool", y, kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    elif kind == "sigmoid":
        y = b.node("Sigmoid", y)
    elif kind == "upsample":
        scales = b.constant(np.array([1, 1, 2, 2], np.float32))
        mode = str(rng.choice(["nearest", "linear"]))
        shape = (n, 1, *(2 * side for side in size))
        y = b.node("Resize", y, "", scales, mode=mode, shape=shape)
    path = b.save(tmp_path / "m.onnx", y)
    for options in ({}, {"threads": 2}, {"winograd": False}):
        oracle.check(path, context=(seed, kind, b.shapes[x], kernel, stride), **options)
    kinds = [node.kind for node in Session(path, tune=False).explain()]
    assert "to_nchw" not in kinds


def test_a_result_that_is_read_too(tmp_path):
    b = graphs.Builder(0)
    y = b.conv(b.input(1, 3, 9, 9), 1)
    oracle.check(b.save(tmp_path / "m.onnx", y, b.conv(y, 5)))
