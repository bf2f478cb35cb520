import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from activsparse.masks import random_score, select

SIZE = st.integers(1, 30)
SPARSITY = st.floats(0, 1)
SEED = st.integers(0, 2**32 - 1)


@given(st.tuples(SIZE, SIZE), SPARSITY, SEED)
def test_drops_exactly_the_lowest_scores(shape, sparsity, seed):
    score = random_score(shape, np.random.default_rng(seed))
    mask = select(score, sparsity)
    assert np.count_nonzero(~mask) == round(sparsity * score.size)
    if mask.any() and not mask.all():
        assert score[~mask].max() <= score[mask].min()


def test_ties_are_broken_by_position():
    mask = select(np.zeros((2, 3), np.float32), 0.5)
    np.testing.assert_array_equal(mask, [[False, False, False], [True, True, True]])


@given(st.tuples(SIZE, SIZE), SPARSITY, st.integers(2, 9), SEED)
def test_blocks_are_dropped_whole_to_the_nearest_count(shape, sparsity, block, seed):
    score = random_score(shape, np.random.default_rng(seed))
    mask = select(score, sparsity, block)
    assert mask.shape == shape
    kept, dropped, sizes = [], [], []
    for y in range(0, shape[0], block):
        for x in range(0, shape[1], block):
            square = np.s_[y : y + block, x : x + block]
            assert mask[square].all() or not mask[square].any()
            (kept if mask[square].all() else dropped).append(score[square].mean(dtype=np.float64))
            sizes.append(score[square].size)
    if kept and dropped:
        assert max(dropped) <= min(kept) + 1e-12
    wanted = round(sparsity * score.size)
    assert abs(np.count_nonzero(~mask) - wanted) <= max(sizes) / 2
