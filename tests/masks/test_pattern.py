import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activsparse import ActivsparseError
from activsparse.masks import (
    ConvShape,
    auto_pattern,
    lattice,
    make_mask,
    propagate,
    random_score,
    select,
    sparsity_of,
)
from activsparse.masks.lattice import lattice_fraction
from activsparse.masks.tiles import TOLERANCE


def conv(size=28, kernel=3, stride=1, group=1, channels=64, dilation=1):
    pair = (kernel, kernel), (stride, stride)
    return ConvShape(*pair, group, channels, channels, (size, size), (dilation, dilation))


@pytest.mark.parametrize(
    ("layer", "pattern"),
    [
        (conv(), "tiles"),
        (conv(size=14, channels=256), "tiles"),
        (conv(channels=15), "lattice"),
        (conv(kernel=1), "lattice"),
        (conv(kernel=5), "lattice"),
        (conv(stride=2), "tiles"),
        (conv(stride=3), "lattice"),
        (conv(group=64), "lattice"),
        (conv(dilation=2), "lattice"),
    ],
)
def test_auto_takes_tiles_where_winograd_rules(layer, pattern):
    assert auto_pattern(layer) == pattern
    mask = make_mask("auto", layer.output, 0.3, phase=2, conv=layer)
    assert abs(sparsity_of(mask) - 0.3) <= 0.03
    separable = np.array_equal(mask, np.outer(mask.any(axis=1), mask.any(axis=0)))
    assert separable == (pattern == "tiles")


def test_random_propagates_the_score():
    score = random_score((32, 32), np.random.default_rng(5))
    np.testing.assert_array_equal(
        make_mask("random", (7, 9), 0.4, score=score, block=2),
        select(propagate(score, (7, 9)), 0.4, 2),
    )


@pytest.mark.parametrize("pattern", ["random", "lattice", "tiles"])
def test_sparsity_zero_keeps_everything(pattern):
    score = random_score((9, 9), np.random.default_rng(0))
    assert sparsity_of(make_mask(pattern, (9, 9), 0.0, score=score)) == 0


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, math.nan, math.inf])
def test_sparsity_outside_the_range_is_refused(sparsity):
    with pytest.raises(ActivsparseError, match=r"outside \[0, 1\)"):
        make_mask("lattice", (8, 8), sparsity)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("stripes", (8, 8), 0.3), "is unknown; did you mean tiles"),
        (("random", (8, 8), 0.3), "needs a score map"),
        (("auto", (8, 8), 0.3), "needs the layer's shape"),
        (("lattice", (1, 1), 0.5), "keeps none of 1x1"),
        (("lattice", (8, 8), 0.999), "keeps none of 8x8"),
        (("tiles", (8, 8), 0.999), "keeps none of 8x8"),
        (
            ("lattice", (28, 28), 0.97),
            "lattice cannot skip .* at most 15 of 16 positions, of: 28x28",
        ),
    ],
)
def test_bad_requests(arguments, message):
    with pytest.raises(ActivsparseError, match=message):
        make_mask(*arguments)


def test_block_below_one_is_refused():
    score = random_score((9, 9), np.random.default_rng(0))
    with pytest.raises(ActivsparseError, match="block 0"):
        make_mask("random", (9, 9), 0.3, score=score, block=0)


@given(
    st.sampled_from(["random", "lattice", "tiles"]),
    st.tuples(st.integers(1, 64), st.integers(1, 64)),
    st.floats(0.9, 1, exclude_max=True),
    st.integers(0, 2**32 - 1),
)
def test_near_one_a_mask_is_near_or_refused(pattern, shape, sparsity, seed):
    """Every pattern refuses what leaves no position of a map, and what it cannot come near."""
    score = random_score(shape, np.random.default_rng(seed))
    positions = shape[0] * shape[1]
    try:
        mask = make_mask(pattern, shape, sparsity, score=score)
    except ActivsparseError:
        # The kept sixteenth of a lattice may lie beside a tiny map.
        lost = pattern == "lattice" and (sparsity > 31 / 32 or not lattice(shape, sparsity).any())
        assert round(sparsity * positions) == positions or lost
        return
    assert mask.any()
    assert round(sparsity * positions) < positions
    bound = {
        "random": 0.5 / positions,
        "lattice": 1 / 32 + shape[0] % lattice_fraction(sparsity).denominator / positions,
        "tiles": max(TOLERANCE, 1 / (2 * min(shape))),
    }
    assert abs(sparsity_of(mask) - sparsity) <= bound[pattern] + 1e-9
