"""What a mask plan may choose for a layer."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from activsparse.masks import ConvShape
from activsparse.masks.exact import LatticeMask, RandomMask, TilesMask
from activsparse.masks.latency import _LIVE as LIVE
from activsparse.masks.latency import dense_ms
from activsparse.masks.plan_options import PlanLayer, PlanOption, macs, plan_options, times
from activsparse.masks.time_table import TimeTable

SIZE = (64, 64)


def conv(side=28, kernel=3, channels=64) -> ConvShape:
    return ConvShape((kernel, kernel), (1, 1), 1, channels, channels, (side, side))


def random_options(side, **options):
    layer = PlanLayer("conv", conv(side, kernel=1))
    found = plan_options(layer, SIZE, patterns=("random",), by_time=False, **options)
    return [option.exact for option in found if isinstance(option.exact, RandomMask)]


@pytest.mark.parametrize(
    ("side", "block"), [(56, 4), (32, 4), (31, 2), (14, 2), (12, 2), (11, 1), (7, 1)]
)
def test_random_squares_are_smaller_on_small_maps(side, block):
    assert {exact.block for exact in random_options(side)} == {block}
    assert {exact.block for exact in random_options(side, block=3)} == {3}


def test_random_masks_have_the_sparsities_and_the_seed():
    found = random_options(56, count=5, seed=11)
    # Each in two fills.
    assert [exact.sparsity for exact in found[::2]] == [0.15, 0.3, 0.45, 0.6, 0.75]
    assert {exact.seed for exact in found} == {11}
    fewer = {exact.sparsity for exact in random_options(56, count=2)}
    assert fewer == {0.15, 0.75}
    assert {exact.sparsity for exact in random_options(56, count=1)} == {0.75}


def test_masks_are_told_by_their_own_sparsity():
    options = plan_options(PlanLayer("conv", conv(30)), (60, 60), by_time=False)
    assert {type(option.exact) for option in options[1:]} == {TilesMask, LatticeMask}
    assert options[0].sparsity == 0
    for option in options[1:]:
        mask = option.exact.mask((30, 30), (60, 60))
        assert option.sparsity == pytest.approx(1 - mask.mean())
        assert 0 < option.sparsity <= 0.9
    assert [option.zeros for option in options] == [
        option.sparsity if option.fill == "zero" else 0 for option in options
    ]


def test_what_saves_no_time_is_left_out_unless_it_may_save_some_later():
    # A lattice takes Winograd from a wide layer: it would be slower than dense.
    layer = PlanLayer("conv", conv(56, channels=64))
    asked = {"patterns": ("lattice",), "fills": ("zero",), "count": 7}
    every = plan_options(layer, SIZE, by_time=False, **asked)
    (ms,) = times(layer, every)
    dense = dense_ms(layer.conv)
    assert ms[0] == pytest.approx(dense)
    slow = [option for option, time in zip(every, ms, strict=True) if time > 0.99 * dense]
    assert len(slow) > 1
    chosen = plan_options(layer, SIZE, by_time=True, **asked)
    assert chosen == [every[0], *(option for option in every if option not in slow)]
    assert plan_options(layer, SIZE, by_time=True, feeds=True, **asked) == every


def test_a_layer_that_may_read_zeros_is_judged_with_them():
    """By a table whose only algorithm that saves anything leaves out inputs that are zero."""
    shape = conv(14, kernel=1)
    lines = {shape: {"gemm": (1e-6, 0.0), LIVE: (0.9e-6, 0.1e-6)}}
    table = TimeTable("a", "avx2", 1, lines, 0.0)
    asked = {"patterns": ("lattice",), "fills": ("zero",), "count": 7, "table": table}
    # On a map of this size nobody tries it for a mask alone.
    assert len(plan_options(PlanLayer("b", shape), SIZE, **asked)) == 1
    every = plan_options(PlanLayer("b", shape), SIZE, **asked, by_time=False)
    behind = PlanLayer("b", shape, source=0)
    saved = {option.sparsity: 0.1 * (1 - (1 - option.sparsity) ** 2) for option in every}
    found = [option.sparsity for option in plan_options(behind, SIZE, **asked)]
    assert found == [s for s, of in saved.items() if not s or of >= 0.01]

    before = [every[0], PlanOption(LatticeMask(Fraction(1, 2)), "zero", 0.5)]
    before.append(PlanOption(before[1].exact, "nearest", 0.5))
    ms = times(behind, every, before, table)
    dense = shape.macs
    kept = 1 - np.array([option.sparsity for option in every])
    np.testing.assert_allclose(ms[1], dense * 1e-6 * np.minimum(1, 0.9 + 0.1 * kept * 0.5))
    np.testing.assert_allclose(ms[2], ms[0])


def test_less_computed_is_less_time_and_work():
    layer = PlanLayer("conv", conv(28, kernel=1, channels=256))
    options = plan_options(
        layer, SIZE, patterns=("lattice",), fills=("zero",), count=7, by_time=False
    )
    sparsities = np.array([option.sparsity for option in options])
    assert (np.diff(sparsities) > 0).all()
    (ms,), (work,) = times(layer, options), macs(layer, options)
    assert (np.diff(ms) < 0).all()
    np.testing.assert_allclose(work, 1e-6 * 28 * 28 * 256 * 256 * (1 - sparsities))


def test_tiles_are_spread_in_what_they_cost_and_name_their_phase():
    layer = PlanLayer("conv", conv(56), phase=5)
    options = plan_options(layer, SIZE, patterns=("tiles",), fills=("zero",), count=4)
    exact = [option.exact for option in options[1:]]
    assert 2 <= len(exact) <= 4
    assert all(isinstance(one, TilesMask) and one.phase == 5 for one in exact)
    (ms,) = times(layer, options)
    assert (np.diff(ms) < 0).all()
