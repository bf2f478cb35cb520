import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activsparse.masks import sparsity_of, tiles
from activsparse.masks.tiles import RUN, TOLERANCE, tile_count

SIZE = st.integers(1, 64)
SPARSITY = st.floats(0, 1, exclude_max=True)
PHASE = st.integers(0, 20)


def axes(mask):
    """Kept rows and kept columns, after checking that the mask is their product."""
    rows, columns = mask.any(axis=1), mask.any(axis=0)
    np.testing.assert_array_equal(mask, np.outer(rows, columns))
    return rows, columns


def runs(axis, value):
    """Lengths of the maximal runs of `value` along a bool axis."""
    return [len(run) for run in "".join("01"[int(v == value)] for v in axis).split("0") if run]


@given(st.tuples(SIZE, SIZE), SPARSITY, PHASE)
def test_kept_rows_times_kept_columns_in_runs(shape, sparsity, phase):
    mask = tiles(shape, sparsity, phase)
    assert mask.shape == shape
    for axis in axes(mask):
        ragged = [length for length in runs(axis, True) if length % RUN]
        assert len(ragged) <= 1
        assert sum(-(-length // RUN) for length in runs(axis, True)) == -(-axis.sum() // RUN)


@given(st.tuples(SIZE, SIZE), SPARSITY, PHASE)
def test_gaps_are_one_wide_as_long_as_possible(shape, sparsity, phase):
    for axis in axes(tiles(shape, sparsity, phase)):
        places = -(-axis.sum() // RUN) + 1
        gaps = runs(axis, False)
        dropped = axis.size - axis.sum()
        assert max(gaps, default=0) == -(-dropped // places)
        # Evenly spread: any two neighbouring gaps of one dimension differ by at most one position.
        assert not gaps or max(gaps) - min(gaps) <= 1


@given(st.tuples(SIZE, SIZE), SPARSITY, PHASE)
def test_achieved_sparsity_is_bounded(shape, sparsity, phase):
    mask = tiles(shape, sparsity, phase)
    bound = max(TOLERANCE, 1 / (2 * min(shape)))
    only_one = (1 - 1 / mask.size) <= sparsity
    assert only_one or abs(sparsity_of(mask) - sparsity) <= bound + 1e-9
    assert mask.any()


@pytest.mark.parametrize(
    ("size", "sparsity", "kept", "number"),
    [
        (14, 0.27, (12, 12), 9),
        (28, 0.27, (24, 24), 36),
        (56, 0.27, (48, 48), 144),
        (56, 0.38, (44, 44), 121),
        (56, 0.30, (44, 48), 132),
        (28, 0.0, (28, 28), 49),
    ],
)
def test_reference_points(size, sparsity, kept, number):
    mask = tiles((size, size), sparsity)
    rows, columns = axes(mask)
    assert (rows.sum(), columns.sum()) == kept
    assert tile_count(mask) == number


def test_no_choice_within_the_tolerance_has_fewer_tiles():
    shape, sparsity = (28, 28), 0.3
    mask = tiles(shape, sparsity)
    for rows in range(1, 29):
        for columns in range(max(1, rows - RUN), min(28, rows + RUN) + 1):
            if abs(1 - rows * columns / 784 - sparsity) <= TOLERANCE:
                assert tile_count(mask) <= -(-rows // RUN) * -(-columns // RUN)


@pytest.mark.parametrize(("size", "distinct"), [(14, 2), (28, 7), (56, 13)])
def test_phases_put_the_gaps_elsewhere(size, distinct):
    masks = {tiles((size, size), 0.265, phase).tobytes() for phase in range(40)}
    assert len(masks) == distinct


@given(st.tuples(SIZE, SIZE), SPARSITY, PHASE)
def test_deterministic(shape, sparsity, phase):
    np.testing.assert_array_equal(tiles(shape, sparsity, phase), tiles(shape, sparsity, phase))
