"""Sparsities for a target: losses between measured points, against what they are made of."""

from __future__ import annotations

import numpy as np
import pytest

from activsparse.train.plan.speedup import _BEYOND, _GRID, _losses


def test_a_loss_never_falls_as_more_is_skipped() -> None:
    """A lucky measurement at a high sparsity must not make it look free."""
    loss = _losses([(0.0, 0.0), (0.2, 0.5), (0.4, 0.1), (0.6, 0.7)])
    known = loss[np.isfinite(loss)]
    assert (np.diff(known) > 0).all()
    assert loss[_GRID.index(0.4)] == pytest.approx(0.5, abs=1e-5)


def test_measured_points_are_kept_and_lines_drawn_between() -> None:
    loss = _losses([(0.4, 0.4), (0.0, 0.0), (0.2, 0.1)])  # in any order
    for sparsity, expected in ((0.0, 0.0), (0.1, 0.05), (0.2, 0.1), (0.3, 0.25), (0.4, 0.4)):
        assert loss[_GRID.index(sparsity)] == pytest.approx(expected, abs=1e-5)


def test_nothing_is_taken_beyond_the_last_measured_sparsity() -> None:
    loss = _losses([(0.0, 0.0), (0.31, 0.1)])
    for sparsity, value in zip(_GRID, loss, strict=True):
        assert np.isfinite(value) == (sparsity <= 0.31 + _BEYOND), sparsity


def test_of_equal_losses_the_lesser_sparsity_is_preferred() -> None:
    loss = _losses([(0.0, 0.0), (0.5, 0.0)])
    assert loss[0] == 0
    assert (np.diff(loss[np.isfinite(loss)]) > 0).all()
