"""What is said of masked layers that gain little, on reports made up for it and on real ones."""

from __future__ import annotations

from dataclasses import replace

import graphs
import pytest

from activsparse import Session
from activsparse.engine.report import NodeReport, savings_of
from activsparse.engine.why import why_not_faster

# 256 products for each of 64 * 28 * 28 values, 0.3 of them skipped, and as much of the work.
DENSE = 256.0 * 64 * 28 * 28
GOOD = NodeReport(
    name="c",
    kind="conv",
    algorithm="direct",
    kernel="avx2 6x16",
    shape=(1, 64, 28, 28),
    eligible=True,
    reason="",
    requested=0.3,
    achieved=0.3,
    macs=0.7 * DENSE,
    dense_macs=DENSE,
    weight_bytes=4 * 256 * 64,
    index_bytes=0,
    sparsity=0.3,
    masked_macs=DENSE,
)


def wasted(**changes: object) -> NodeReport:
    why = "no tile of 'winograd4' is free of kept positions"
    values = {"algorithm": "winograd4", "achieved": 0.0, "eligible": False, "reason": why}
    return replace(GOOD, **(values | changes))


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (GOOD, ""),
        (replace(GOOD, requested=None, sparsity=None, achieved=None, reason="no mask"), ""),
        (wasted(), "no tile of 'winograd4' is free of kept positions"),
        (
            wasted(candidates=(("direct", 0.9), ("winograd4", 0.5))),
            "no tile of 'winograd4' is free of kept positions; direct would skip, but takes 0.9 ms "
            "against 0.5",
        ),
        (replace(GOOD, achieved=0.19, algorithm="winograd2"), "winograd2 computes every tile"),
        (replace(GOOD, achieved=0.21, algorithm="winograd2"), ""),
        (replace(GOOD, masked_macs=DENSE / 2), "only 50% of its multiply-adds"),
        (
            replace(GOOD, dense_macs=DENSE / 16, masked_macs=DENSE / 16, macs=0.7 * DENSE / 16),
            "few channels: 16 products for a value",
        ),
        (
            replace(
                GOOD,
                shape=(1, 512, 2, 2),
                dense_macs=4608.0 * 512 * 4,
                masked_macs=4608.0 * 512 * 4,
                macs=0.7 * 4608 * 512 * 4,
                weight_bytes=4 * 4608 * 512,
            ),
            "few positions: reading 9.0 MiB of weights",
        ),
        (replace(GOOD, longest_share=1.5), "one thread has 1.50 times the mean"),
        (replace(GOOD, longest_share=1.1), ""),
    ],
)
def test_the_cause_is_named(row, said):
    found = why_not_faster(row, "avx2")
    assert found.startswith(said)
    assert bool(found) == bool(said)


@pytest.mark.parametrize("masked", [False, True])
def test_a_joined_block_counts_what_is_masked_of_it(tmp_path, masked):
    """A block whose expansion alone has a mask, or nothing, in numbers worked out by hand."""
    b = graphs.Builder()
    x = b.node("Relu", b.conv(b.input(1, 3, 64, 64), 16))
    y = b.conv(x, 96, (1, 1), pads=(0, 0, 0, 0))
    y = b.node("Relu", b.mask(y) if masked else y)
    y = b.node("Relu", b.conv(y, 96, group=96))
    y = b.conv(y, 16, (1, 1), pads=(0, 0, 0, 0))
    session = Session(b.save(tmp_path / "m.onnx", b.node("Add", y, x)), tune=False)
    (row,) = [row for row in session.explain() if row.kind == "inverted_residual"]
    assert row.masked_macs == (64 * 64 * 16 * 96 if masked else 0)
    assert (row.sparsity is None) != masked
    stem = 64 * 64 * 27 * 16
    found = savings_of(session.explain())
    if masked:
        assert found.sparsity == row.sparsity == row.requested
        assert found.saved == pytest.approx(
            row.sparsity * row.masked_macs / (row.dense_macs + stem)
        )
        assert "of its multiply-adds are of convolutions with a mask" in why_not_faster(
            row, session.isa
        )
    else:
        assert (found.sparsity, found.saved) == (0, 0)
