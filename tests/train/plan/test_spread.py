"""A sparsity shared out to layers, against all combinations by force."""

import itertools

import numpy as np
import pytest

from activsparse.errors import ActivsparseError
from activsparse.masks import ConvShape
from activsparse.train.plan.sensitivity import Sensitivity
from activsparse.train.plan.spread import spread_sparsity
from activsparse.train.sparsify.layers import ConvLayer

MEASURED = (0.25, 0.5, 0.75)


def _layer(name: str, channels: int, size: int) -> ConvLayer:
    shape = ConvShape((3, 3), (1, 1), 1, channels, channels, (size, size))
    return ConvLayer(name, None, shape, 0, False, False, False, (), None)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("sparsity", [0.0, 0.3, 0.5, 0.7])
def test_no_other_choice_loses_less(seed, sparsity):
    random = np.random.default_rng(seed)
    layers = [_layer(n, int(random.integers(8, 64)), int(random.integers(7, 28))) for n in "abcd"]
    slopes = random.random(4)
    found = [
        Sensitivity(layer.name, s, s, 0, k * s**2, 0)
        for layer, k in zip(layers, slopes, strict=True)
        for s in MEASURED
    ]
    chosen = spread_sparsity([_layer("stem", 3, 28), *layers], found, sparsity)
    macs = np.array([layer.macs for layer in layers], dtype=float)
    skipped = macs @ np.array(list(chosen.values())) / macs.sum()
    assert skipped >= sparsity - 1e-9

    every = np.array(list(itertools.product((0.0, *MEASURED), repeat=4)))
    # Rounding costs up may miss choices that only just reach the sparsity.
    enough = every @ macs / macs.sum() >= sparsity + len(layers) / 4000
    least = (every[enough] ** 2 @ slopes).min()
    assert np.array(list(chosen.values())) ** 2 @ slopes <= least + 1e-9


def test_more_than_was_measured_is_refused():
    found = [Sensitivity("a", 0.5, 0.5, 0, 0.1, 0)]
    with pytest.raises(ActivsparseError, match=r"skip 0\.500 of the multiply-adds at most"):
        spread_sparsity([_layer("a", 16, 14)], found, 0.6)


def test_where_nothing_is_lost_no_more_is_skipped_than_asked():
    layers = [_layer(name, 32, 14) for name in "abcdefgh"]
    found = [Sensitivity(r.name, s, s, 0, -0.01 * s, 0) for r in layers for s in MEASURED]
    chosen = spread_sparsity(layers, found, 0.25)
    assert np.mean(list(chosen.values())) == pytest.approx(0.25), chosen
