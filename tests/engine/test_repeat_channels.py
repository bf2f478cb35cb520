"""Several outputs for each channel are those of a depthwise convolution, in another order."""

import graphs
import pytest

from activsparse import Session
from activsparse.engine.verify import compare_with_onnxruntime


@pytest.fixture
def b():
    return graphs.Builder()


@pytest.fixture
def rows(tmp_path, b):
    """Check the numbers; what runs."""

    def check(*outputs):
        path = b.save(tmp_path / "m.onnx", *outputs)
        session = Session(path, threads=1, tune=False, isa=None)
        for row in compare_with_onnxruntime(path, session):
            assert row.holds, row
        return session.explain()

    return check


def depthwise(found) -> bool:
    stages = {"depthwise_block", "depthwise", "strips"}
    return any(row.algorithm in stages for row in found)


@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize("outputs", [2, 3, 4])
@pytest.mark.parametrize("channels", [5, 16])
def test_numbers(b, rows, channels, outputs, kernel):
    x = b.conv(b.input(2, 3, 13, 9), channels)
    wide, pads = channels * outputs, (kernel // 2,) * 4
    y = b.conv(x, wide, (kernel, kernel), (2, 2), pads=pads, group=channels)
    y = b.node("Relu", b.mask(b.norm(y)))
    z = b.conv(y, 20, (1, 1), pads=(0, 0, 0, 0))
    assert depthwise(rows(z, b.node("Relu", x)))


def test_readers_of_every_channel_keep_the_order(b, rows):
    x = b.conv(b.input(1, 3, 13, 9), 8)
    y, z = b.conv(x, 16, group=8), b.conv(x, 16, group=8)
    grouped = b.conv(y, 16, group=4)
    assert not depthwise(rows(grouped, z, b.node("Sigmoid", z)))
