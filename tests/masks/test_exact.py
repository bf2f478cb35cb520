"""Exact masks and the values files hold of them."""

from __future__ import annotations

from fractions import Fraction

import pytest

from activsparse import ActivsparseError
from activsparse.masks.exact import (
    DenseMask,
    LatticeMask,
    RandomMask,
    TilesMask,
    as_values,
    exact_mask,
)

SHAPE = (20, 12)


@pytest.mark.parametrize(
    "exact",
    [
        DenseMask(),
        TilesMask(20, 12, 4, 0),
        TilesMask(1, 1, 2, 7),
        LatticeMask(Fraction(1, 3), 0),
        LatticeMask(Fraction(15, 16), 15),
        RandomMask(0.0, 1, 0),
        RandomMask(0.999, 12, 2**63 - 1),
    ],
)
def test_values_give_the_mask_back(exact):
    assert exact_mask(as_values(exact), SHAPE) == exact


@pytest.mark.parametrize(
    ("exact", "changes"),
    [
        (TilesMask(20, 12, 4, 0), {"rows": 21}),
        (TilesMask(20, 12, 4, 0), {"columns": 13}),
        (TilesMask(20, 12, 4, 0), {"rows": 0}),
        (TilesMask(20, 12, 4, 0), {"columns": 0}),
        (TilesMask(20, 12, 4, 0), {"run": 3}),
        (TilesMask(20, 12, 4, 0), {"phase": -1}),
        (LatticeMask(Fraction(1, 3), 0), {"phase": -1}),
        (LatticeMask(Fraction(1, 3), 0), {"fraction": "4/3"}),
        (RandomMask(0.5, 1, 0), {"sparsity": 1.0}),
        (RandomMask(0.5, 1, 0), {"sparsity": -0.1}),
        (RandomMask(0.5, 1, 0), {"sparsity": True}),
        (RandomMask(0.5, 1, 0), {"block": 13}),
        (RandomMask(0.5, 1, 0), {"block": 0}),
        (RandomMask(0.5, 1, 0), {"seed": 2**63}),
        (RandomMask(0.5, 1, 0), {"seed": -1}),
    ],
)
def test_just_outside_is_refused_by_its_key(exact, changes):
    (key,) = changes
    with pytest.raises(ActivsparseError, match=key):
        exact_mask({**as_values(exact), **changes}, SHAPE)


def test_what_is_left_out_is_the_default():
    assert RandomMask(0.5) == RandomMask(0.5, 1, 0)
