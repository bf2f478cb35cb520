import math

import numpy as np
import pytest

from activsparse import ActivsparseError
from activsparse.masks import (
    ConvShape,
    auto_pattern,
    make_mask,
    propagate,
    random_score,
    select,
    sparsity_of,
)


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
        (("stripes", (8, 8), 0.3), "unknown; choose one of random"),
        (("random", (8, 8), 0.3), "needs a score map"),
        (("auto", (8, 8), 0.3), "needs the layer's shape"),
        (("lattice", (1, 1), 0.5), "keeps none of 1x1"),
        (("lattice", (8, 8), 0.999), "keeps none of 8x8"),
        (("tiles", (8, 8), 0.999), "keeps none of 8x8"),
    ],
)
def test_bad_requests(arguments, message):
    with pytest.raises(ActivsparseError, match=message):
        make_mask(*arguments)


def test_block_below_one_is_refused():
    score = random_score((9, 9), np.random.default_rng(0))
    with pytest.raises(ActivsparseError, match="block 0"):
        make_mask("random", (9, 9), 0.3, score=score, block=0)
