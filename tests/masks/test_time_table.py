"""Tables of times: what their lines are fitted to, and what is no table."""

from __future__ import annotations

import json

import numpy as np
import pytest

from activsparse import ActivsparseError
from activsparse.masks import ConvShape
from activsparse.masks.time_table import TimeTable, read_table, table_of

CONV = ConvShape((3, 3), (1, 1), 1, 16, 32, (14, 10))
DENSE = CONV.macs


def values(points, **changes):
    """A file's values with one layer and one algorithm, of (multiply-adds, ms)."""
    layer = {
        **{"kernel": [3, 3], "stride": [1, 1], "group": 1, "in_channels": 16, "out_channels": 32},
        "output": [14, 10],
        "times": {"direct": points},
    }
    return {"machine": "a b", "isa": "avx2", "threads": 1, "layers": [layer], **changes}


def line(points) -> tuple[float, float]:
    return table_of(values(points)).lines[CONV]["direct"]


def test_times_on_a_line_give_it_back():
    """Half a millisecond whatever is computed, and one per million multiply-adds."""
    done = DENSE * np.array([1.0, 0.7, 0.5, 0.2])
    fixed, rate = line([[d, 0.5 + 1e-6 * d] for d in done])
    assert fixed * DENSE == pytest.approx(0.5)
    assert rate == pytest.approx(1e-6)


def test_every_time_counts_for_what_it_is_off_by_in_relation():
    """An error of a tenth in a small time weighs as much as one in a large time."""
    done, ms = np.array([0.1, 0.1, 1.0, 1.0]) * DENSE, np.array([0.9, 1.1, 9.0, 11.0])
    fixed, rate = line(np.stack([done, ms], 1).tolist())
    grid_fixed, grid_rate = np.meshgrid(np.linspace(-0.2, 0.2, 81), np.linspace(8, 12, 81))
    at = (grid_fixed[..., None] + grid_rate[..., None] * done / DENSE) / ms - 1
    errors = (at**2).sum(-1)
    mine = ((fixed * DENSE + rate * done) / ms - 1) ** 2
    assert mine.sum() <= errors.min() + 1e-4


def test_neither_part_of_a_line_is_negative():
    # Faster than in proportion: all of it goes by the multiply-adds.
    fixed, rate = line([[DENSE, 2.0], [DENSE / 2, 0.5]])
    assert fixed == 0
    assert rate == pytest.approx((2 / DENSE + 1 / DENSE) / 2)
    # Slower with less to do: nothing goes by them.
    fixed, rate = line([[DENSE, 1.0], [DENSE / 2, 3.0]])
    assert (fixed * DENSE, rate) == (pytest.approx(2.0), 0)


def test_a_table_says_what_it_is_of():
    assert str(TimeTable("a b", "avx2", 1, {})) == "a b, avx2, 1 thread"
    assert str(TimeTable("a b", "avx2", 4, {})) == "a b, avx2, 4 threads"


def test_a_fill_may_cost_nothing_but_no_less():
    assert table_of(values([[DENSE, 1.0]], fill_ms=0)).fill_ms == 0
    assert table_of(values([[DENSE, 1.0]], fill_ms=1e-7)).fill_ms == 1e-7
    for wrong in (-1e-9, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="fill_ms is no time"):
            table_of(values([[DENSE, 1.0]], fill_ms=wrong))


@pytest.mark.parametrize(
    "wrong",
    [
        {"layers": []},
        {"layers": [{}]},
        values([[DENSE, 0.0]]),
        values([DENSE, 1.0]),
        values([]),
        [],
    ],
)
def test_damaged_files_are_one_line(wrong, tmp_path):
    (tmp_path / "times.json").write_text(json.dumps(wrong))
    with pytest.raises(ActivsparseError, match="is no table of times, or damaged") as caught:
        read_table(tmp_path / "times.json")
    assert "\n" not in str(caught.value)
