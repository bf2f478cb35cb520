"""Scale and shift by channel behind an activation, which convolutions behind them take in."""

from __future__ import annotations

import graphs
import numpy as np
import oracle
import pytest

from activsparse import Session


def kinds(path):
    return [node.kind for node in Session(path, tune=False).explain()]


@pytest.mark.parametrize("seed", range(30))
def test_random_readers(tmp_path, seed):
    rng = np.random.default_rng(seed)
    b = graphs.Builder(seed)
    channels = 2 * int(rng.integers(1, 20))
    x = b.node("Relu", b.conv(b.input(int(rng.integers(1, 3)), 3, 9, 8), channels))
    shape = (1, channels, 1, 1) if rng.random() < 0.5 else (1,)  # of a learnt affine block: numbers
    y = b.node("Mul", x, b.constant(b.normal(*shape)))
    shifted = bool(rng.random() < 0.6)
    if shifted:
        y = b.node("Add", y, b.constant(b.normal(*shape)))
    ends, padded = [], False
    for _ in range(int(rng.integers(1, 3))):
        kernel, group = int(rng.choice([1, 1, 3])), int(rng.choice([1, 1, 2, channels]))
        pad = kernel // 2 * int(rng.integers(0, 2))
        padded |= pad > 0
        out = group * int(rng.integers(1, 9))
        end = b.conv(y, out, (kernel, kernel), pads=(pad,) * 4, group=group)
        ends.append(b.mask(end) if rng.random() < 0.3 else end)
    path = b.save(tmp_path / "m.onnx", *ends)
    oracle.check(path, context=(seed, channels, shape, shifted, padded))
    found = kinds(path)
    assert ("scale_shift" in found) == (shifted and padded), found


def test_what_others_read_too_stays(tmp_path):
    b = graphs.Builder(0)
    x = b.node("Relu", b.conv(b.input(1, 3, 8, 8), 6))
    y = b.node("Mul", x, b.constant(b.normal(1, 6, 1, 1)))
    z = b.node("Add", b.conv(y, 6), y)
    path = b.save(tmp_path / "m.onnx", z)
    oracle.check(path)
    assert "scale_shift" in kinds(path)


def test_an_output_stays(tmp_path):
    b = graphs.Builder(0)
    x = b.node("Relu", b.conv(b.input(1, 3, 8, 8), 6))
    y = b.node("Mul", x, b.constant(b.normal(1, 6, 1, 1)))
    oracle.check(b.save(tmp_path / "m.onnx", b.conv(y, 6), y))
