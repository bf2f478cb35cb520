import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activsparse import ActivsparseError
from activsparse.masks import nearest_source


@given(st.integers(1, 14), st.integers(1, 14), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_nearest_kept_position_lowest_index_first(height, width, density, seed):
    rng = np.random.default_rng(seed)
    mask = rng.random((height, width)) < density
    mask[rng.integers(height), rng.integers(width)] = True

    y, x = np.divmod(np.arange(mask.size), width)
    distance = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    expected = np.where(mask.ravel(), distance, np.iinfo(np.int64).max).argmin(axis=1)

    source = nearest_source(mask)
    assert source.dtype == np.int32
    np.testing.assert_array_equal(source, expected)


def test_far_away_source_is_found():
    mask = np.zeros((3, 200), np.bool_)
    mask[2, 199] = True
    assert (nearest_source(mask) == 599).all()


def test_nothing_kept_is_refused():
    with pytest.raises(ActivsparseError, match="no position is kept"):
        nearest_source(np.zeros((2, 2), np.bool_))
