"""One door to all patterns."""

from __future__ import annotations

from collections.abc import Sequence

from activsparse.errors import ActivsparseError
from activsparse.masks.arrays import FloatMap, Mask
from activsparse.masks.branches import alternate_band
from activsparse.masks.lattice import HIGHEST, MAX_PERIOD, lattice
from activsparse.masks.options import PATTERNS, check_literal, check_sparsity
from activsparse.masks.possible import PossibleMask, possible_masks
from activsparse.masks.propagate import propagate
from activsparse.masks.select import select
from activsparse.masks.shape import ConvShape
from activsparse.masks.tiles import TOLERANCE, tiles

__all__ = [
    "ConvShape",
    "NothingKeptError",
    "auto_pattern",
    "keeps_a_position",
    "make_mask",
    "refuse_emptied",
    "refuse_unmet",
    "sparsity_of",
]


class NothingKeptError(ActivsparseError):
    """A mask would drop every position of a layer."""


def auto_pattern(conv: ConvShape, sparsity: float = 0.3) -> str:
    """The pattern whose skipped positions save the most time on a layer by itself.

    `tiles` or `lattice`: that of the fastest mask (see `possible_masks`) whose sparsity is within
    0.03 of the requested one, or the nearest to it.
    """
    return _auto_mask(conv, sparsity, 0).pattern


def _auto_mask(conv: ConvShape, sparsity: float, phase: int) -> PossibleMask:
    def rank(possible: PossibleMask) -> tuple[float, float, float]:
        miss = round(abs(possible.sparsity - sparsity), 12)
        return max(miss, TOLERANCE), possible.cost, miss

    return min(possible_masks(conv, "auto", phase), key=rank)


def make_mask(
    pattern: str,
    shape: tuple[int, int],
    sparsity: float,
    *,
    score: FloatMap | None = None,
    block: int = 1,
    phase: int = 0,
    conv: ConvShape | None = None,
) -> Mask:
    """Make one layer's mask.

    Args:
        pattern: one of `PATTERNS`.
        shape: (OH, OW) of the mask.
        sparsity: requested share of positions not computed, in [0, 1).
        score: `random` only: score map of any size, propagated to `shape`.
        block: `random` only: side of the squares dropped as a whole.
        phase: all but `random`: shifts the pattern; use another one in each residual block.
        conv: `auto` only: the layer; its output is `shape`.

    Returns:
        bool (OH, OW), True = computed, with at least one True.

    Raises:
        ActivsparseError: unknown pattern, sparsity outside [0, 1), block below 1, no score, no
            conv, nothing kept, more than a lattice can drop.
    """
    check_literal("pattern", pattern, PATTERNS)
    check_sparsity(sparsity)
    if pattern == "auto":
        if conv is None:
            raise ActivsparseError(
                "pattern auto: needs the layer's shape; pass its ConvShape as conv"
            )
        mask = _auto_mask(conv, sparsity, phase).mask(shape, phase)
    elif pattern == "random":
        if score is None:
            raise ActivsparseError(
                "pattern random: needs a score map; pass one of random_score as score"
            )
        if block < 1:
            raise ActivsparseError(
                f"block {block}: must be at least 1; choose 1 for single positions"
            )
        mask = select(propagate(score, shape), sparsity, block)
    elif pattern == "band":
        mask = alternate_band(shape[0], sparsity, phase).mask(shape, shape)
    elif pattern == "lattice":
        mask = lattice(shape, sparsity, phase)
    else:
        mask = tiles(shape, sparsity, phase)
    if not (keeps_a_position(shape, sparsity) and mask.any()):
        raise NothingKeptError(
            f"sparsity {sparsity:g} keeps none of {shape[0]}x{shape[1]} positions; "
            "lower it or skip the layer"
        )
    if _lattice_only(pattern, conv):
        _refuse_beyond_lattice(pattern, f"{shape[0]}x{shape[1]} positions", sparsity)
    return mask


def sparsity_of(mask: Mask) -> float:
    """Share of positions not computed."""
    return 1.0 - float(mask.mean())


def keeps_a_position(shape: tuple[int, int], sparsity: float) -> bool:
    """Whether `sparsity` leaves a position of a map (OH, OW), rounded to whole positions.

    Regular patterns always keep one, but a layer of which nothing was to be left is a mistake under
    every pattern.
    """
    positions = shape[0] * shape[1]
    return round(sparsity * positions) < positions


def refuse_emptied(layers: Sequence[tuple[str, tuple[int, int], float]]) -> None:
    """Raise if there are layers (name, shape, sparsity) that would keep no position.

    Raises:
        NothingKeptError: naming all of them.
    """
    if layers:
        lowest = min(sparsity for *_, sparsity in layers)
        raise NothingKeptError(
            f"sparsity {lowest:g} keeps no position of: {_named(layers)}; "
            "lower it or skip these layers"
        )


def refuse_unmet(pattern: str, layers: Sequence[tuple[str, ConvShape, float]]) -> None:
    """Raise if of layers (name, convolution, sparsity) a pattern cannot drop as much.

    Raises:
        NothingKeptError: some would keep no position; names all of them.
        ActivsparseError: some get a lattice, and a lattice never drops so much; names all of them.
    """
    refuse_emptied(
        [
            (name, conv.output, sparsity)
            for name, conv, sparsity in layers
            if not keeps_a_position(conv.output, sparsity)
        ]
    )
    beyond = [
        (name, conv.output, sparsity)
        for name, conv, sparsity in layers
        if sparsity > HIGHEST and _lattice_only(pattern, conv)
    ]
    if beyond:
        _refuse_beyond_lattice(pattern, _named(beyond), min(sparsity for *_, sparsity in beyond))


def _lattice_only(pattern: str, conv: ConvShape | None) -> bool:
    """Whether a layer can get a lattice and nothing else."""
    return pattern == "lattice" or (pattern == "auto" and conv is not None and not conv.winograd)


def _refuse_beyond_lattice(pattern: str, of: str, sparsity: float) -> None:
    if sparsity > HIGHEST:
        why = " (no Winograd, so auto can only lay a lattice there)" if pattern == "auto" else ""
        raise ActivsparseError(
            f"pattern {pattern} cannot skip sparsity {sparsity:g}, but at most {MAX_PERIOD - 1} of "
            f"{MAX_PERIOD} positions, of: {of}{why}; choose at most {HIGHEST:g}, "
            "or pattern random or tiles"
        )


def _named(layers: Sequence[tuple[str, tuple[int, int], float]]) -> str:
    return ", ".join(f"{name} ({shape[0]}x{shape[1]})" for name, shape, _ in layers)
