"""Masks to the last parameter: what a mask plan notes, and what makes the same bits anywhere."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import Any, TypeAlias

import numpy as np

from activsparse.errors import ActivsparseError
from activsparse.masks.arrays import Mask
from activsparse.masks.lattice import MAX_PERIOD, lattice
from activsparse.masks.propagate import propagate
from activsparse.masks.score import random_score
from activsparse.masks.select import select
from activsparse.masks.tiles import RUNS, Kept, kept_mask

__all__ = [
    "BandMask",
    "DenseMask",
    "ExactMask",
    "LatticeMask",
    "RandomMask",
    "TilesMask",
    "exact_mask",
]

Size: TypeAlias = tuple[int, int]

_LARGEST = 2**31


@dataclass(frozen=True)
class DenseMask:
    """Keeps every position."""

    pattern = "dense"

    def mask(self, shape: Size, input_size: Size) -> Mask:
        """Bool (OH, OW), True = computed."""
        return np.ones(shape, np.bool_)

    def __str__(self) -> str:
        return "dense"


@dataclass(frozen=True)
class TilesMask:
    """Kept rows x kept columns in runs, see `masks.tiles`."""

    rows: int
    columns: int
    run: int
    phase: int = 0
    pattern = "tiles"

    def mask(self, shape: Size, input_size: Size) -> Mask:
        """Bool (OH, OW), True = computed."""
        return kept_mask(shape, Kept(self.rows, self.columns, self.run), self.phase)

    def __str__(self) -> str:
        return f"tiles {self.rows}x{self.columns} in runs of {self.run}"


@dataclass(frozen=True)
class LatticeMask:
    """Regular holes, `fraction` of all positions, see `masks.lattice`."""

    fraction: Fraction
    phase: int = 0
    pattern = "lattice"

    def mask(self, shape: Size, input_size: Size) -> Mask:
        """Bool (OH, OW), True = computed."""
        return lattice(shape, float(self.fraction), self.phase)

    def __str__(self) -> str:
        return f"lattice {self.fraction}"


@dataclass(frozen=True)
class BandMask:
    """Keeps `rows` whole rows, from row `first` on; for residual branches, see `masks.branches`."""

    first: int
    rows: int
    pattern = "band"

    def mask(self, shape: Size, input_size: Size) -> Mask:
        """Bool (OH, OW), True = computed."""
        found = np.zeros(shape, np.bool_)
        found[self.first : self.first + self.rows] = True
        return found

    def __str__(self) -> str:
        return f"band of rows {self.first}-{self.first + self.rows - 1}"


@dataclass(frozen=True)
class RandomMask:
    """Aligned squares of `block` positions with the lowest scores of a random map.

    The map has the size of the network's input and is drawn by `default_rng([seed, 0])`, as a
    Sparsifier's of that seed in its first step.
    """

    sparsity: float
    block: int = 1
    seed: int = 0
    pattern = "random"

    def mask(self, shape: Size, input_size: Size) -> Mask:
        """Bool (OH, OW), True = computed."""
        score = random_score(input_size, np.random.default_rng([self.seed, 0]))
        return select(propagate(score, shape), self.sparsity, self.block)

    def __str__(self) -> str:
        return f"random {self.sparsity:g} in blocks of {self.block}"


ExactMask: TypeAlias = BandMask | DenseMask | TilesMask | LatticeMask | RandomMask

_KINDS: dict[str, type[ExactMask]] = {
    kind.pattern: kind for kind in (DenseMask, TilesMask, LatticeMask, RandomMask, BandMask)
}


def as_values(exact: ExactMask) -> dict[str, Any]:
    """The mask as a mapping of plain values, which `exact_mask` reads."""
    values = {field.name: getattr(exact, field.name) for field in fields(exact)}
    plain = {k: str(v) if isinstance(v, Fraction) else v for k, v in values.items()}
    return {"pattern": exact.pattern, **plain}


def exact_mask(values: Any, shape: Size) -> ExactMask:
    """The mask that a mapping describes.

    Args:
        values: `pattern` and that pattern's parameters, all of them.
        shape: (OH, OW) of the map it is for.

    Raises:
        ActivsparseError: it describes none of that shape; names the key.
    """
    if not isinstance(values, dict) or values.get("pattern") not in _KINDS:
        raise ActivsparseError(f"mask: needs a pattern, one of {', '.join(_KINDS)}")
    kind = _KINDS[values["pattern"]]
    wanted = [field.name for field in fields(kind)]
    odd = sorted({str(key) for key in values} ^ {"pattern", *wanted})
    if odd:
        raise ActivsparseError(
            f"mask: pattern {kind.pattern} takes {', '.join(wanted) or 'nothing else'}; "
            f"{odd[0]!r} is missing or unknown"
        )
    if kind is TilesMask:
        return TilesMask(
            whole(values, "rows", 1, shape[0]),
            whole(values, "columns", 1, shape[1]),
            whole(values, "run", min(RUNS), max(RUNS), RUNS),
            whole(values, "phase", 0, _LARGEST),
        )
    if kind is BandMask:
        rows = whole(values, "rows", 1, shape[0])
        return BandMask(whole(values, "first", 0, shape[0] - rows), rows)
    if kind is LatticeMask:
        return LatticeMask(_fraction(values["fraction"]), whole(values, "phase", 0, _LARGEST))
    if kind is RandomMask:
        sparsity = values["sparsity"]
        if isinstance(sparsity, bool) or not isinstance(sparsity, int | float):
            sparsity = -1.0
        if not 0 <= sparsity < 1:
            raise ActivsparseError("sparsity: is no number in [0, 1)")
        block = whole(values, "block", 1, min(shape))
        return RandomMask(float(sparsity), block, whole(values, "seed", 0, 2**63 - 1))
    return DenseMask()


def whole(
    values: dict[str, Any], key: str, least: int, most: int, among: tuple[int, ...] = ()
) -> int:
    """The whole number `values[key]`, in a range or among some.

    Raises:
        ActivsparseError: it is none.
    """
    value = values.get(key)
    sound = isinstance(value, int) and not isinstance(value, bool) and least <= value <= most
    if not sound or (among and value not in among):
        wanted = f"one of {', '.join(map(str, among))}" if among else f"from {least} to {most}"
        raise ActivsparseError(f"{key}: is no whole number {wanted}")
    return int(value)  # type: ignore[arg-type]


def _fraction(value: Any) -> Fraction:
    found = re.fullmatch(r"([0-9]{1,2})/([0-9]{1,2})", value) if isinstance(value, str) else None
    if found is not None and 0 < int(found[1]) < int(found[2]) <= MAX_PERIOD:
        return Fraction(int(found[1]), int(found[2]))
    raise ActivsparseError(
        f"fraction: is none such as 1/3, between 0 and 1 with a denominator up to {MAX_PERIOD}"
    )
