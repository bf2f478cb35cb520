"""The one set of options: checked once, and the same masks whoever is given them."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from activsparse.errors import ActivsparseError
from activsparse.masks import MaskOptions


def test_it_is_frozen_and_changes_make_another():
    options = MaskOptions(pattern="lattice", skip=["a", "b"])
    with pytest.raises(FrozenInstanceError):
        options.sparsity = 0.5
    other = options.but(sparsity=0.5)
    assert (options.sparsity, other.sparsity, other.pattern) == (0.3, 0.5, "lattice")
    assert other == MaskOptions(sparsity=0.5, pattern="lattice", skip=("a", "b"))


def test_one_glob_needs_no_list():
    assert MaskOptions(skip="layer4*").skip == ("layer4*",)


def test_a_generator_and_none_are_taken():
    options = MaskOptions(only=(name for name in ("a", "b")), per_layer=None)
    assert (options.only, options.per_layer) == (("a", "b"), {})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pattern": "latice"}, "pattern 'latice': is unknown; did you mean lattice"),
        ({"fill": "mean"}, "fill 'mean': is unknown"),
        ({"site": None}, "site None: is unknown"),
        ({"criterion": "l2"}, "criterion 'l2': is unknown"),
        ({"phases": 1}, "phases 1: is unknown"),
        ({"sparsity": 1.0}, r"sparsity 1: outside \[0, 1\)"),
        ({"sparsity": float("nan")}, r"sparsity nan: outside \[0, 1\)"),
        ({"per_layer": {"a*": -0.1}}, r"per_layer 'a\*': sparsity -0.1: outside \[0, 1\)"),
        ({"block": 0}, "block=0: must be a whole number, at least 1"),
        ({"block": 2}, "block 2: pattern tiles drops no squares; use pattern='random' or block=1"),
        ({"importance_weight": 0.5}, "importance_weight: pattern tiles has no scores to weigh"),
        (
            {"importance_weight": 2.0, "pattern": "random"},
            r"importance_weight 2: is outside \[0, 1\]",
        ),
    ],
)
def test_bad_options_are_named(changes, message):
    with pytest.raises(ActivsparseError, match=message):
        MaskOptions(**changes)
    with pytest.raises(ActivsparseError, match=message):
        MaskOptions().but(**changes)


def test_an_unknown_option_is_named():
    with pytest.raises(TypeError, match="no option 'patern'; did you mean pattern"):
        MaskOptions().but(patern="auto")
