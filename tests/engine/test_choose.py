"""The choice of algorithms: which one, not how fast."""

import graphs
import pytest

from activsparse import Session, _native
from activsparse.engine.report import NodeReport


@pytest.fixture
def b():
    return graphs.Builder()


def rows_of(b, tmp_path, output, **options) -> list[NodeReport]:
    rows = Session(b.save(tmp_path / "m.onnx", output), **options).explain()
    return [row for row in rows if row.kind == "conv"]


@pytest.mark.parametrize("isa", _native.available_isas())
def test_each_kind_of_convolution_gets_its_own_algorithm(b, tmp_path, isa):
    x = b.conv(b.input(1, 3, 128, 128), 32, strides=(2, 2))
    x = b.conv(x, 32, group=32)
    x = b.conv(x, 64, (1, 1), pads=(0, 0, 0, 0))
    x = b.conv(x, 64)
    x = b.conv(x, 64, strides=(2, 2))
    x = b.conv(x, 64, (5, 5), pads=(2, 2, 2, 2))
    algorithms = [row.algorithm for row in rows_of(b, tmp_path, x, isa=isa)]
    assert algorithms == [
        "stem",
        "depthwise_block",
        "pointwise",
        "winograd6",
        "winograd4_s2",
        "direct",
    ]


@pytest.mark.parametrize("isa", _native.available_isas())
@pytest.mark.parametrize(("kernel", "pad"), [(7, 3), (6, 2), (5, 2)])
def test_a_first_convolution_with_a_large_kernel(b, tmp_path, isa, kernel, pad):
    x = b.conv(b.input(1, 3, 64, 64), 32, (kernel, kernel), strides=(2, 2), pads=(pad,) * 4)
    options = {"isa": isa, "tune": False}
    assert [row.algorithm for row in rows_of(b, tmp_path, x, **options)] == ["winograd_stem"]
    without = rows_of(b, tmp_path, x, winograd=False, **options)
    assert [row.algorithm for row in without] == ["stem"]


def test_sparse_layers_leave_winograd_for_direct(b, tmp_path):
    x = b.conv(b.input(1, 16, 32, 32), 64)
    (row,) = rows_of(b, tmp_path, b.mask(x, 0.95))
    assert row.algorithm == "direct"
    assert row.achieved == pytest.approx(row.requested, abs=0.02)


@pytest.mark.parametrize("isa", _native.available_isas())
def test_estimates_see_what_a_mask_at_the_input_saves_a_1x1_convolution(b, tmp_path, isa):
    """`direct` leaves out what `pointwise` computes of zeros; without zeros it is slower."""
    x = b.conv(b.input(1, 16, 28, 28), 64)
    plain = b.conv(x, 128, (1, 1), pads=(0, 0, 0, 0))
    masked = b.conv(b.mask(x, 0.5), 128, (1, 1), pads=(0, 0, 0, 0))
    rows = rows_of(b, tmp_path, b.node("Add", plain, masked), isa=isa, tune=False)
    assert sorted(row.algorithm for row in rows[-2:]) == ["direct", "pointwise"]


def test_forced_algorithm(b, tmp_path):
    (row,) = rows_of(b, tmp_path, b.conv(b.input(1, 16, 8, 8), 64), algorithm="winograd2")
    assert row.algorithm == "winograd2"


def test_live_taps_achieve_the_sparsity_of_their_mask(b, tmp_path):
    x = b.mask(b.conv(b.input(1, 16, 8, 8), 64), 0.5)
    rows = rows_of(b, tmp_path, b.mask(b.conv(x, 64), 0.5), algorithm="active_taps")
    assert rows[-1].algorithm == "active_taps"
    assert rows[-1].eligible
    assert rows[-1].achieved == pytest.approx(rows[-1].requested)


@pytest.mark.parametrize("seed", range(3))
def test_never_the_reference(tmp_path, seed):
    path = graphs.random_graph(tmp_path / "m.onnx", seed)
    assert "reference" not in {row.algorithm for row in Session(path).explain()}
