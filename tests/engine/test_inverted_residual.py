"""When convolutions are joined into inverted residuals, and what reports say of them."""

import graphs
import numpy as np
import pytest

from activsparse import Session
from activsparse.engine.verify import compare_with_onnxruntime
from activsparse.masks import nearest_source


def block(b, masked, size=64, wide=96):
    """A stem, an expansion to `wide` channels, a depthwise convolution and a projection."""
    x = b.node("Relu", b.conv(b.input(1, 3, size, size), 16))
    mask = b.mask if masked else lambda v: v
    y = b.node("Relu", mask(b.conv(x, wide, (1, 1), pads=(0, 0, 0, 0))))
    y = b.node("Relu", mask(b.conv(y, wide, group=wide)))
    y = mask(b.conv(y, 16, (1, 1), pads=(0, 0, 0, 0)))
    return b.node("Add", y, x)


@pytest.mark.parametrize("masked", [False, True])
def test_wide_blocks_are_joined(tmp_path, masked):
    b = graphs.Builder()
    path = b.save(tmp_path / "m.onnx", block(b, masked))
    session = Session(path)
    (row,) = [row for row in session.explain() if row.kind == "inverted_residual"]
    assert row.algorithm == "strips"
    assert row.dense_macs == 64 * 64 * (2 * 16 * 96 + 9 * 96)
    assert row.eligible == masked
    if masked:
        assert row.requested == pytest.approx(0.3, abs=0.03)
        # The depthwise convolution may be faster without its random mask.
        assert row.achieved > 0.2
    assert all(result.holds for result in compare_with_onnxruntime(path, session, seed=1))


@pytest.mark.parametrize("masked", [False, True])
def test_a_stem_is_joined_with_the_block_after_it(tmp_path, masked):
    b = graphs.Builder()
    mask = b.mask if masked else lambda v: v
    x = b.node("Relu", b.conv(b.input(2, 3, 130, 130), 40, strides=(2, 2)))
    x = b.node("Relu", mask(b.conv(x, 40, group=40)))
    x = mask(b.conv(x, 16, (1, 1), pads=(0, 0, 0, 0)))
    path = b.save(tmp_path / "m.onnx", x)
    session = Session(path)
    (row,) = [row for row in session.explain() if row.kind != "to_nchw"]
    assert row.kind == "inverted_residual"
    assert row.dense_macs == 2 * 65 * 65 * (27 * 40 + 9 * 40 + 16 * 40)
    assert all(result.holds for result in compare_with_onnxruntime(path, session, seed=1))


def test_blocks_that_fit_into_the_cache_are_not(tmp_path):
    b = graphs.Builder()
    path = b.save(tmp_path / "m.onnx", block(b, masked=False, size=16))
    assert "inverted_residual" not in {row.kind for row in Session(path).explain()}


@pytest.mark.parametrize(
    ("masked", "wide", "size", "joined"),
    [
        (False, 128, 32, False),  # 512 KiB between the stages
        (False, 128, 33, True),
        (False, 64, 40, False),
        (True, 64, 32, False),  # 256 KiB
        (True, 64, 33, True),
    ],
)
def test_what_is_joined_leaves_the_cache_or_half_of_it_with_masks(
    tmp_path, masked, wide, size, joined
):
    b = graphs.Builder()
    path = b.save(tmp_path / "m.onnx", block(b, masked, size, wide))
    kinds = [row.kind for row in Session(path, tune=False).explain()]
    assert ("inverted_residual" in kinds) == joined


def test_a_forced_algorithm_runs_convolutions_one_by_one(tmp_path):
    b = graphs.Builder()
    path = b.save(tmp_path / "m.onnx", block(b, masked=True))
    kinds = {row.kind for row in Session(path, algorithm="reference").explain()}
    assert "inverted_residual" not in kinds


def test_a_value_used_twice_stays_in_memory(tmp_path):
    b = graphs.Builder()
    x = b.node("Relu", b.conv(b.input(1, 3, 64, 64), 16))
    wide = b.conv(x, 96, (1, 1), pads=(0, 0, 0, 0))
    y = b.node("Add", b.conv(wide, 96, group=96), wide)
    path = b.save(tmp_path / "m.onnx", y)
    session = Session(path)
    assert "inverted_residual" not in {row.kind for row in session.explain()}
    value = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
    assert np.isfinite(session.run(value)).all()


@pytest.mark.parametrize("rows", [4, 5])
def test_values_from_far_away_are_not_waited_for(tmp_path, rows):
    """Strips keep the rows that holes take their values from, if those are near."""
    b = graphs.Builder()
    x = b.node("Relu", b.conv(b.input(1, 3, 64, 64), 16))
    mask = np.ones((64, 64), bool)
    mask[20 : 20 + 2 * rows] = False  # half of them copy the row above, half the one below
    y = b.conv(x, 96, (1, 1), pads=(0, 0, 0, 0))
    y = b.node("Relu", b.gather(y, nearest_source(mask)))
    y = b.node("Relu", b.conv(y, 96, group=96))
    y = b.conv(y, 16, (1, 1), pads=(0, 0, 0, 0))
    path = b.save(tmp_path / "m.onnx", y)
    session = Session(path, tune=False)
    (row,) = [row for row in session.explain() if row.kind == "inverted_residual"]
    assert (row.dense_macs == 64 * 64 * (2 * 16 * 96 + 9 * 96)) == (rows == 4)
    assert all(result.holds for result in compare_with_onnxruntime(path, session, seed=1))
