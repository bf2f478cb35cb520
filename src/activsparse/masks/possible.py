"""The masks a layer may get under a regular pattern, and what each costs."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np

from activsparse.masks.arrays import Mask
from activsparse.masks.latency import layer_cost, winograd_macs
from activsparse.masks.lattice import MAX_PERIOD, lattice
from activsparse.masks.shape import ConvShape
from activsparse.masks.tiles import Kept, kept_choices, kept_mask, run_for
from activsparse.masks.time_table import TimeTable

__all__ = ["PossibleMask", "possible_masks"]

_STEP = 0.005
"""Of several tile masks whose sparsities are as close as this, the cheapest is enough."""


@dataclass(frozen=True)
class PossibleMask:
    """One possible mask.

    Attributes:
        pattern: `lattice` or `tiles`.
        sparsity: achieved.
        cost: pattern `auto`: estimated ms with a dense input; `tiles`: multiply-adds; `lattice`: 0.
        layout: a lattice's share of holes, or the kept rows and columns.
    """

    pattern: str
    sparsity: float
    cost: float
    layout: Fraction | Kept

    def mask(self, shape: tuple[int, int], phase: int) -> Mask:
        """Bool (OH, OW), True = computed."""
        if isinstance(self.layout, Kept):
            return kept_mask(shape, self.layout, phase)
        return lattice(shape, float(self.layout), phase)


@lru_cache(maxsize=4096)
def possible_masks(
    conv: ConvShape, pattern: str, phase: int, table: TimeTable | None = None
) -> tuple[PossibleMask, ...]:
    """All masks worth considering under `lattice`, `tiles` or `auto`; the first keeps everything.

    `tiles` costs what Winograd with tiles of the usual size multiplies, where Winograd runs the
    layer at all, else what the kept positions do: a pattern that is the same for every machine.
    `auto` costs the time of the fastest algorithm by a table of times, by default the same one on
    every machine, and lays tiles where Winograd can run only.
    """
    found = []
    if pattern == "tiles" or (pattern == "auto" and conv.winograd):
        runs = layer_cost(conv, table).runs if pattern == "auto" else (run_for(conv.output),)
        found += [possible for run in runs for possible in _tile_masks(conv, pattern, run, table)]
    if pattern in ("lattice", "auto"):
        found += _lattice_masks(conv, pattern, phase, table)
    return tuple(sorted(found, key=lambda possible: possible.sparsity))


@lru_cache(maxsize=1024)
def _tile_masks(
    conv: ConvShape, pattern: str, run: int, table: TimeTable | None
) -> list[PossibleMask]:
    rows, columns, sparsities, products = kept_choices(conv.output, run, conv.stride[0])
    best: dict[int, PossibleMask] = {}
    # Cheapest first, and of equal products the one that keeps most.
    for at in np.lexsort((sparsities, products)):
        slot = round(float(sparsities[at]) / _STEP)
        if slot in best:
            continue
        kept = Kept(int(rows[at]), int(columns[at]), run)
        share = 1 - float(sparsities[at])
        if pattern == "auto":
            cost = layer_cost(conv, table).ms(share, kept)
        elif conv.winograd:
            cost = winograd_macs(conv, kept.rows, kept.columns, run)
        else:
            cost = share * conv.macs
        best[slot] = PossibleMask("tiles", 1 - share, cost, kept)
    return list(best.values())


@lru_cache(maxsize=1024)
def _lattice_shares(shape: tuple[int, int], phase: int) -> list[tuple[Fraction, float]]:
    """All lattices and the share of positions they keep."""
    fractions = {Fraction(p, q) for q in range(1, MAX_PERIOD + 1) for p in range(q)}
    return [(f, float(lattice(shape, float(f), phase).mean())) for f in sorted(fractions)]


def _lattice_masks(
    conv: ConvShape, pattern: str, phase: int, table: TimeTable | None
) -> list[PossibleMask]:
    found = []
    for fraction, kept in _lattice_shares(conv.output, phase):
        if kept:
            cost = layer_cost(conv, table).ms(kept) if pattern == "auto" else 0.0
            found.append(PossibleMask("lattice", 1 - kept, cost, fraction))
    return found
