from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activsparse.masks import lattice, sparsity_of
from activsparse.masks.lattice import lattice_fraction

SIZE = st.integers(1, 64)
SPARSITY = st.floats(0, 1, exclude_max=True)
PHASE = st.integers(0, 40)


@given(SPARSITY)
def test_fraction_is_the_nearest(sparsity):
    fractions = [Fraction(p, q) for q in range(1, 17) for p in range(q)]
    nearest = min(abs(f - Fraction(sparsity)) for f in fractions)
    assert abs(lattice_fraction(sparsity) - Fraction(sparsity)) == nearest


@pytest.mark.parametrize(("sparsity", "a", "q"), [(1 / 3, 2, 3), (1 / 2, 1, 2), (1 / 5, 2, 5)])
@pytest.mark.parametrize("phase", range(6))
def test_known_lattices(sparsity, a, q, phase):
    y, x = np.mgrid[:17, :23]
    np.testing.assert_array_equal(lattice((17, 23), sparsity, phase), (x + a * y + phase) % q != 0)


@given(st.tuples(SIZE, SIZE), SPARSITY, PHASE)
def test_achieved_sparsity_is_bounded(shape, sparsity, phase):
    height, width = shape
    mask = lattice(shape, sparsity, phase)
    rest = height % lattice_fraction(sparsity).denominator
    # The top gap of the fractions below 1 is 1/16 wide and has no upper end: up to 1/16 off there.
    step = 1 / 32 if sparsity <= 31 / 32 else 1 / 16
    assert abs(sparsity_of(mask) - sparsity) <= step + rest / (height * width) + 1e-9


@given(st.tuples(SIZE, SIZE), st.floats(0, 0.5), PHASE)
def test_every_hole_has_computed_neighbours(shape, sparsity, phase):
    mask = lattice(shape, sparsity, phase)
    assert (mask[1:] | mask[:-1]).all()
    assert (mask[:, 1:] | mask[:, :-1]).all()


@given(st.tuples(SIZE, SIZE), SPARSITY, PHASE, st.integers(1, 30))
def test_holes_are_spread_evenly(shape, sparsity, phase, length):
    """Every window of a row holds the mean number of holes within 1, of a column within 2."""
    holes = ~lattice(shape, sparsity, phase)
    mean = length * float(lattice_fraction(sparsity))
    for axis, bound in ((1, 1), (0, 2)):
        if length <= shape[axis]:
            windows = np.lib.stride_tricks.sliding_window_view(holes, length, axis=axis).sum(-1)
            assert np.abs(windows - mean).max() < bound


@given(SPARSITY, PHASE)
def test_phase_shifts_along_the_row(sparsity, phase):
    np.testing.assert_array_equal(
        lattice((20, 20), sparsity, phase)[:, 1:], lattice((20, 20), sparsity, phase + 1)[:, :-1]
    )
    period = lattice_fraction(sparsity).denominator
    distinct = {lattice((20, 20), sparsity, phase + k).tobytes() for k in range(period)}
    assert len(distinct) == period
