"""Convolutions of one input whose results are added become one where that is the same."""

import graphs
import numpy as np
import pytest

from activsparse import Session
from activsparse.engine.verify import compare_with_onnxruntime


@pytest.fixture
def b():
    return graphs.Builder()


@pytest.fixture
def kinds(tmp_path, b):
    """Check the numbers; the kinds of the operators between the layouts."""

    def check(*outputs):
        path = b.save(tmp_path / "m.onnx", *outputs)
        session = Session(path, threads=1, tune=False)
        for row in compare_with_onnxruntime(path, session):
            assert row.holds, row
        return [row.kind for row in session.explain() if not row.kind.startswith("to_")]

    return check


def branch(b, x, kernel, stride=1, group=1, channels=None, dilation=1, norm=True):
    pads = [dilation * (k - 1) // 2 for k in kernel] * 2
    channels = channels or b.shapes[x][1]
    y = b.conv(
        x,
        channels,
        kernel,
        (stride, stride),
        pads=pads,
        group=group,
        dilations=(dilation, dilation),
        bias=not norm,
    )
    return b.norm(y) if norm else y


def masked(b, y, mask):
    return b.node("Mul", y, b.constant(mask[None, None].astype(np.float32)))


@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize("group", [1, 4, 24])
def test_branches_of_different_kernels(b, kinds, group, identity):
    x = b.node("Relu", b.conv(b.input(2, 3, 9, 11), 24))
    parts = [branch(b, x, (1, 1), group=group), b.norm(x)][: 1 + identity]
    parts += [branch(b, x, (3, 3), group=group, norm=bool(i)) for i in range(3)]
    y = parts[0]
    for part in parts[1:]:
        y = b.node("Add", part, y)
    assert kinds(b.node("Relu", y)) == ["conv", "conv"]


def test_strides_dilations_and_sides(b, kinds):
    x = b.input(1, 8, 13, 12)
    strided = b.node("Add", branch(b, x, (5, 3), 2, channels=6), branch(b, x, (1, 1), 2, 1, 6))
    dilated = b.node("Add", branch(b, x, (1, 1)), branch(b, x, (3, 3), dilation=2))
    lines = b.node("Add", branch(b, x, (1, 5)), branch(b, x, (3, 5)))
    assert kinds(strided, dilated, lines) == ["conv"] * 3


def test_equal_masks_stay(tmp_path, b, kinds):
    x = b.input(1, 8, 13, 12)
    mask = b.plane(x, 0.3)
    parts = [masked(b, branch(b, x, (k, k)), mask) for k in (3, 1, 3)]
    y = b.node("Add", b.node("Add", *parts[:2]), parts[2])
    assert kinds(b.node("Relu", b.norm(y))) == ["conv"]
    (row,) = [row for row in Session(tmp_path / "m.onnx").explain() if row.kind == "conv"]
    assert row.eligible
    assert row.sparsity == pytest.approx(1 - mask.mean())


def test_masked_branches_of_a_sum_with_others(b, kinds):
    x = b.node("Relu", b.conv(b.input(1, 3, 13, 12), 8))
    mask = b.plane(x, 0.3)
    y = b.node("Add", branch(b, x, (1, 1)), masked(b, branch(b, x, (3, 3)), mask))
    for _ in range(3):
        y = b.node("Add", y, masked(b, branch(b, x, (3, 3)), mask))
    y = b.node("Relu", b.node("Add", y, b.norm(x)))
    assert kinds(y) == ["conv", "conv", "conv"]
    assert kinds(b.node("Add", y, y))[:3] == ["conv", "conv", "conv"]


def test_what_is_not_the_same_stays(b, kinds):
    x = b.input(1, 8, 13, 12)
    mask, other = b.plane(x, 0.3), b.plane(x, 0.4)
    three, one = (3, 3), (1, 1)
    outputs = [
        b.node("Add", branch(b, x, (1, 3)), branch(b, x, (3, 1))),  # reach different inputs
        b.node("Add", branch(b, x, three), branch(b, x, one, group=2)),
        b.node("Add", masked(b, branch(b, x, three), mask), branch(b, x, three)),
        b.node("Add", masked(b, branch(b, x, three), mask), masked(b, branch(b, x, one), other)),
        b.node("Add", masked(b, branch(b, x, three), mask), b.norm(x)),
        b.node("Add", b.node("Relu", branch(b, x, three)), branch(b, x, one)),
    ]
    assert kinds(*outputs).count("conv") == 11


def test_a_branch_that_is_read_elsewhere_stays(b, kinds):
    x = b.input(1, 8, 13, 12)
    three, one = branch(b, x, (3, 3)), branch(b, x, (1, 1))
    assert kinds(b.node("Add", three, one), one).count("conv") == 2
