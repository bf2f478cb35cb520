import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from activsparse.masks import propagate, random_score

SIZE = st.integers(1, 40)


@given(st.tuples(SIZE, SIZE), st.tuples(SIZE, SIZE), st.integers(0, 2**32 - 1))
def test_equals_adaptive_average_pooling(shape, pooled, seed):
    """Sizes that do not divide, non-square maps and up-sampling included."""
    score = random_score(shape, np.random.default_rng(seed))
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(score)[None], pooled)[0]
    got = propagate(score, pooled)
    assert got.dtype == np.float32
    # torch sums a window of n values in float32: an error of n ulp of a mean below 1 at most.
    window = (shape[0] // pooled[0] + 2) * (shape[1] // pooled[1] + 2)
    np.testing.assert_allclose(got, expected.numpy(), atol=window * np.finfo(np.float32).eps)


def test_same_size_is_the_identity():
    score = random_score((5, 7), np.random.default_rng(0))
    np.testing.assert_array_equal(propagate(score, (5, 7)), score)


@pytest.mark.parametrize("seed", [0, 1])
def test_scores_are_uniform_and_repeatable(seed):
    score = random_score((64, 96), np.random.default_rng(seed))
    assert score.shape == (64, 96)
    assert score.dtype == np.float32
    assert 0 <= score.min() < 0.01
    assert 0.99 < score.max() < 1
    np.testing.assert_array_equal(score, random_score((64, 96), np.random.default_rng(seed)))
