import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activsparse import _native
from activsparse.masks import sparsity_of, tiles
from activsparse.masks.tiles import RUNS, TOLERANCE, axis_products, products, run_for

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


def cost(mask, run):
    """Products of a mask: each run is cut into tiles and one rest, short or full."""
    short = {6: 4, 4: 2, 2: 1}[run]

    def rest(length):
        return 0 if length == 0 else short + 2 if length <= short else run + 2

    total = 1
    for axis in axes(mask):
        lengths = runs(axis, True)
        total *= sum(length // run * (run + 2) + rest(length % run) for length in lengths)
    return total


@given(st.tuples(SIZE, SIZE), SPARSITY, PHASE)
def test_kept_rows_times_kept_columns_in_runs(shape, sparsity, phase):
    mask = tiles(shape, sparsity, phase)
    run = run_for(shape)
    assert mask.shape == shape
    for axis in axes(mask):
        ragged = [length for length in runs(axis, True) if length % run]
        assert len(ragged) <= 1
    kept = [int(axis.sum()) for axis in axes(mask)]
    assert cost(mask, run) == products(kept[0], run) * products(kept[1], run)


@given(st.tuples(SIZE, SIZE), SPARSITY, PHASE)
def test_gaps_are_one_wide_as_long_as_possible(shape, sparsity, phase):
    for axis in axes(tiles(shape, sparsity, phase)):
        places = -(-axis.sum() // run_for(shape)) + 1
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
        (14, 0.0, (14, 14), 484),
        (14, 0.14, (12, 14), 396),
        (14, 0.27, (12, 12), 324),
        (28, 0.0, (28, 28), 42 * 42),
        (28, 0.27, (24, 24), 36 * 36),
        (56, 0.27, (46, 48), 70 * 72),
        (56, 0.38, (44, 44), 66 * 66),
        (7, 0.0, (7, 7), 225),
        (7, 0.14, (6, 7), 180),
        (7, 0.27, (6, 6), 144),
        (7, 0.49, (4, 6), 96),
    ],
)
def test_reference_points(size, sparsity, kept, number):
    mask = tiles((size, size), sparsity)
    assert tuple(int(axis.sum()) for axis in axes(mask)) == kept
    assert cost(mask, run_for(mask.shape)) == number


@pytest.mark.parametrize("size", [7, 14, 28])
def test_the_engine_computes_as_many_products(size):
    for sparsity in (0.0, 0.1, 0.2, 0.3, 0.5):
        mask = tiles((size, size), sparsity)
        run = run_for(mask.shape)
        sides = [tile[3:] for tile in _native.tile_cover(mask, run)]
        assert sum((height + 2) * (width + 2) for height, width in sides) <= cost(mask, run)


@pytest.mark.parametrize("run", RUNS)
def test_no_choice_within_the_tolerance_has_fewer_products(run):
    mask = tiles((28, 28), 0.3, run=run)
    for rows in range(1, 29):
        for columns in range(max(1, rows - run), min(28, rows + run) + 1):
            if abs(1 - rows * columns / 784 - 0.3) <= TOLERANCE:
                assert cost(mask, run) <= products(rows, run) * products(columns, run)


@pytest.mark.parametrize(("size", "distinct"), [(14, 2), (28, 7), (56, 13)])
def test_phases_put_the_gaps_elsewhere(size, distinct):
    masks = {tiles((size, size), 0.265, phase).tobytes() for phase in range(40)}
    assert len(masks) == distinct


@given(st.tuples(SIZE, SIZE), SPARSITY, PHASE)
def test_deterministic(shape, sparsity, phase):
    np.testing.assert_array_equal(tiles(shape, sparsity, phase), tiles(shape, sparsity, phase))


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("tile", [4, 2])
def test_products_in_other_tiles_than_gaps_were_laid_for(run, tile):
    for size in (7, 14, 28, 56):
        for sparsity in (0.0, 0.2, 0.4):
            mask = tiles((size, size), sparsity, run=run)
            estimated = 1
            for axis in axes(mask):
                estimated *= axis_products(size, int(axis.sum()), run, tile)
            sides = [cover[3:] for cover in _native.tile_cover(mask, tile)]
            real = sum((height + 2) * (width + 2) for height, width in sides)
            assert real <= estimated <= products(size, tile) ** 2
            assert tile > run or estimated <= 1.35 * real, (size, sparsity)
