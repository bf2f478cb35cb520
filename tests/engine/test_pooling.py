"""Poolings whose attributes are left to their defaults, and windows at the edges."""

import graphs
import numpy as np
import onnxruntime
import pytest

from activsparse import ActivsparseError, Session
from activsparse.engine.verify import compare_with_onnxruntime


def check(b: graphs.Builder, tmp_path, output: str) -> None:
    path = b.save(tmp_path / "m.onnx", output)
    for row in compare_with_onnxruntime(path, Session(path)):
        assert row.holds, row


@pytest.mark.parametrize("attributes", [{}, {"count_include_pad": 0}, {"count_include_pad": 1}])
def test_padding_of_averages_counts_only_if_asked(tmp_path, attributes):
    b = graphs.Builder()
    x = b.conv(b.input(1, 3, 9, 7), 16)
    pads = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1)}
    check(b, tmp_path, b.node("AveragePool", x, **pads, **attributes))


@pytest.mark.parametrize("opset", [11, 18, 22])
@pytest.mark.parametrize("op", ["MaxPool", "AveragePool"])
@pytest.mark.parametrize("size", [7, 8, 9])
def test_a_last_window_that_begins_in_the_padding_is_none(tmp_path, op, size, opset):
    b = graphs.Builder(opset=opset)
    x = b.conv(b.input(1, 3, size, size), 8)
    kernel, stride, pad = 2, 2, 1
    count = -(-(size + 2 * pad - kernel) // stride) + 1
    if (count - 1) * stride >= size + pad:
        count -= 1
    y = b.node(
        op,
        x,
        shape=(1, 8, count, count),
        kernel_shape=(kernel, kernel),
        strides=(stride, stride),
        pads=(pad,) * 4,
        ceil_mode=1,
    )
    check(b, tmp_path, b.conv(y, 4))


def test_not_square(tmp_path):
    b = graphs.Builder()
    weight = b.constant(b.normal(5, 3, 3, 5) / np.float32(45**0.5))
    x = b.node("Conv", b.input(1, 3, 11, 13), weight, shape=(1, 5, 11, 13), auto_pad="SAME_UPPER")
    x = b.node("MaxPool", x, shape=(1, 5, 10, 9), kernel_shape=(2, 5))
    check(b, tmp_path, x)


@pytest.mark.parametrize("mode", ["SAME_UPPER", "SAME_LOWER"])
def test_padding_engines_disagree_on_is_refused_and_falls_back(tmp_path, mode):
    """ONNX's definition keeps a stride's sizes; ONNX Runtime forgets that the window is dilated."""
    b = graphs.Builder(opset=19)
    x = b.conv(b.input(1, 3, 9, 7), 16)
    y = b.node("MaxPool", x, kernel_shape=(2, 2), dilations=(2, 2), auto_pad=mode)
    path = b.save(tmp_path / "m.onnx", y)
    with pytest.raises(ActivsparseError, match=rf"dilated.*{mode}.*write its pads out"):
        Session(path)
    for row in compare_with_onnxruntime(path, Session(path, fallback="onnxruntime")):
        assert row.holds, row


@pytest.mark.parametrize("include", [0, 1])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_mean_of_a_dilated_window_of_padding_alone_is_zero(tmp_path, size, include):
    b = graphs.Builder(opset=19)
    how = {"kernel_shape": (2, 2), "dilations": (2, 2), "pads": (1, 1, 1, 1)}
    y = b.node("AveragePool", b.input(1, 3, size, size), **how, count_include_pad=include)
    path = b.save(tmp_path / "m.onnx", y)
    x = b.normal(1, 3, size, size)
    (expected,) = onnxruntime.InferenceSession(path).run(None, {"x": x})
    np.testing.assert_allclose(Session(path).run(x), expected, atol=1e-6)
