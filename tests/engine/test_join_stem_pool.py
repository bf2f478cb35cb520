"""A first convolution and the max pooling after it as one operator."""

from __future__ import annotations

import graphs
import pytest

from activsparse import Session
from activsparse.engine.compile import compile_file
from activsparse.engine.verify import compare_with_onnxruntime


def network(b, mask=lambda value: value):
    x = b.conv(b.input(2, 3, 97, 85), 40, (7, 7), strides=(2, 2), pads=(3, 3, 3, 3))
    x = b.node("Relu", mask(x))
    window = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1]}
    return b.node("MaxPool", x, shape=(2, 40, 25, 22), **window)


def kinds(path, **options):
    session = Session(path, tune=False, **{"threads": 1, **options})
    return [row.kind for row in session.explain()][:1]


def test_it_is_joined_and_right(tmp_path):
    b = graphs.Builder()
    path = b.save(tmp_path / "m.onnx", b.conv(network(b), 24))
    session = Session(path, tune=False, threads=1)
    row = session.explain()[0]
    assert (row.kind, row.algorithm, row.shape) == (
        "conv_max_pool",
        "winograd_stem",
        (2, 40, 25, 22),
    )
    assert row.dense_macs == 2 * 49 * 43 * 40 * 3 * 49
    assert all(result.holds for result in compare_with_onnxruntime(path, session, seed=1))


def test_threads_that_share_its_bands_agree(tmp_path):
    b = graphs.Builder()
    path = b.save(tmp_path / "m.onnx", network(b))
    compile_file(path, tmp_path / "m.plan", tune=False)
    session = Session(tmp_path / "m.plan", threads=3)
    assert session.explain()[0].kind == "conv_max_pool"
    assert all(result.holds for result in compare_with_onnxruntime(path, session, seed=2))


@pytest.mark.parametrize(
    "options", [{"winograd": False}, {"threads": 3}, {"algorithm": "reference"}]
)
def test_not_where_another_algorithm_or_several_threads_run_it(tmp_path, options):
    b = graphs.Builder()
    path = b.save(tmp_path / "m.onnx", network(b))
    if "algorithm" in options:
        rows = Session(path, **options).explain()
        assert "conv_max_pool" not in {row.kind for row in rows}
    else:
        assert kinds(path, **options) == ["conv"]


def test_not_with_a_mask_or_another_reader(tmp_path):
    b = graphs.Builder()
    assert kinds(b.save(tmp_path / "a.onnx", network(b, lambda x: b.mask(x, 0.3)))) == ["conv"]
    b = graphs.Builder()
    y = network(b)
    stem = b.nodes[-2].output[0]
    assert kinds(b.save(tmp_path / "b.onnx", y, b.node("GlobalAveragePool", stem))) == ["conv"]
