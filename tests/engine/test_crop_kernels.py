"""Rows and columns of kernels that no computed position needs are not kept, and nothing changes."""

from __future__ import annotations

import graphs
import numpy as np
import pytest

from activsparse import Session
from activsparse.engine.load import load
from activsparse.engine.passes import optimise
from activsparse.engine.verify import compare_with_onnxruntime
from activsparse.masks import nearest_source


def small_network(path, seed):
    """Convolutions of random kernels on maps hardly larger than they, some with few positions."""
    b = graphs.Builder(seed)
    rng = b.rng
    size = [int(s) for s in rng.integers(1, 7, 2)]
    x = b.mask(b.conv(b.input(1, int(rng.integers(2, 6)), *size), int(rng.integers(1, 70))))
    for _ in range(3):
        kernel = tuple(int(k) for k in rng.choice([1, 2, 3, 5], 2))
        dilations = tuple(int(d) for d in rng.integers(1, 4, 2))
        pads = tuple(int(p) for p in rng.integers(0, 4, 4))
        size = b.shapes[x][2:]
        if any(
            s + pads[i] + pads[i + 2] < dilations[i] * (kernel[i] - 1) + 1
            for i, s in enumerate(size)
        ):
            continue
        strides = tuple(int(s) for s in rng.integers(1, 3, 2))
        x = b.conv(x, int(rng.integers(1, 70)), kernel, strides, pads, dilations)
        how = rng.integers(4)
        if how == 1:
            x = b.mask(x, float(rng.uniform(0, 0.95)))
        elif how == 2:
            x = b.gather(x, nearest_source(b.plane(x, float(rng.uniform(0, 0.95)))))
        if rng.random() < 0.5:
            x = b.node("Relu", x)
    return b.save(path, x)


@pytest.mark.parametrize("seed", range(40))
def test_results_stay(tmp_path, seed):
    path = small_network(tmp_path / "m.onnx", seed)
    for tune in (True, False):
        session = Session(path, tune=tune)
        for each in compare_with_onnxruntime(path, session, seed):
            assert each.holds, (seed, tune, each)


def test_every_algorithm_takes_them(tmp_path):
    """The last of four positions: the taps beyond the map are gone, whatever computes the rest."""
    b = graphs.Builder(3)
    mask = np.zeros((1, 1, 2, 2), np.float32)
    mask[..., 1, 1] = 1
    x = b.conv(b.input(1, 32, 2, 2), 48)
    path = b.save(tmp_path / "m.onnx", b.node("Mul", x, b.constant(mask)))
    (conv,) = (n for n in optimise(load(path)).nodes if n.op == "conv")
    assert conv.arrays["weight"].shape == (48, 32, 2, 2)
    (row,) = (r for r in Session(path).explain() if r.kind == "conv")
    assert row.dense_macs == 4 * 9 * 32 * 48  # what the network of the file costs
    assert row.macs == 4 * 32 * 48
    for name, _ in row.candidates:
        session = Session(path, algorithm=name)
        for each in compare_with_onnxruntime(path, session):
            assert each.holds, (name, each)


@pytest.mark.parametrize(
    ("size", "dilation", "left"), [(7, 6, 3), (6, 6, 1), (6, 12, 1), (5, 2, 3), (1, 1, 1)]
)
def test_kernels_dilated_beyond_the_map(tmp_path, size, dilation, left):
    b = graphs.Builder(size)
    pads, dilations = (dilation,) * 4, (dilation, dilation)
    y = b.conv(b.input(1, 8, size, size), 16, pads=pads, dilations=dilations)
    path = b.save(tmp_path / "m.onnx", y)
    (conv,) = (n for n in optimise(load(path)).nodes if n.op == "conv")
    assert conv.arrays["weight"].shape[2:] == (left, left)
    for each in compare_with_onnxruntime(path, Session(path)):
        assert each.holds, each
