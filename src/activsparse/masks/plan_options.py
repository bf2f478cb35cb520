"""What a mask plan may choose for each layer, and what each choice costs.

Of the hundreds of possible masks a well-spread few are worth measuring: tiles that save time step
by step, the most regular lattices, random blocks; each with every fill asked for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from activsparse.errors import ActivsparseError
from activsparse.masks.exact import (
    BandMask,
    DenseMask,
    ExactMask,
    LatticeMask,
    RandomMask,
    TilesMask,
)
from activsparse.masks.latency import layer_cost
from activsparse.masks.pattern import sparsity_of
from activsparse.masks.possible import PossibleMask, possible_masks
from activsparse.masks.shape import ConvShape
from activsparse.masks.tiles import RUNS, Kept
from activsparse.masks.time_table import TimeTable, default_table

__all__ = [
    "DEFAULT_PATTERNS",
    "DENSE",
    "LEAST_SAVED",
    "PLAN_PATTERNS",
    "PlanLayer",
    "PlanOption",
    "macs",
    "plan_options",
    "times",
]

PLAN_PATTERNS = ("band", "tiles", "lattice", "random")
DEFAULT_PATTERNS = ("band", "tiles", "lattice")
"""Random blocks save what a lattice saves, and lose more."""
HIGHEST = 0.8
"""Sparser masks lose too much to be worth measuring."""
REGULAR = tuple(Fraction(p, q) for p, q in ((1, 5), (1, 4), (1, 3), (1, 2), (2, 3), (3, 4), (4, 5)))
"""Lattices whose holes are evenest."""
LEAST_SAVED = 0.01
"""Share of a layer's dense time; what saves less is noise."""

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True)
class PlanLayer:
    """A convolution that may be masked.

    Attributes:
        name: of the convolution.
        conv: its shape.
        phase: of its pattern.
        source: number of the layer whose zeros arrive here, if it is zero-filled, or None.
    """

    name: str
    conv: ConvShape
    phase: int = 0
    source: int | None = None


@dataclass(frozen=True)
class PlanOption:
    """One choice for a layer: its mask, what its holes hold, and the share of holes."""

    exact: ExactMask
    fill: str
    sparsity: float

    @property
    def zeros(self) -> float:
        """Share of positions the next layer finds zero."""
        return self.sparsity if self.fill == "zero" else 0.0

    def __str__(self) -> str:
        return str(self.exact) + (f", {self.fill}" if self.sparsity else "")


DENSE = PlanOption(DenseMask(), "zero", 0.0)


def plan_options(
    layer: PlanLayer,
    input_size: tuple[int, int],
    *,
    table: TimeTable | None = None,
    patterns: Sequence[str] = DEFAULT_PATTERNS,
    fills: Sequence[str] = ("zero", "nearest"),
    count: int = 4,
    block: int | None = None,
    seed: int = 0,
    feeds: bool = False,
    by_time: bool = True,
) -> list[PlanOption]:
    """The options of a layer, dense first.

    Args:
        layer: the convolution.
        input_size: (H, W) of the network's input.
        table: of times.
        patterns: of `PLAN_PATTERNS`; bands are for residual branches, see `masks.plan_units`.
        fills: `zero`, `nearest` or both.
        count: so many masks of each pattern at most.
        block: `random` only: side of squares; by default 4, less on small maps.
        seed: `random` only: of the score map.
        feeds: whether zeros it leaves may save a later layer's time.
        by_time: leave out what saves no time; else every sparsity is as good as any.

    Raises:
        ActivsparseError: an unknown pattern.
    """
    unknown = [pattern for pattern in patterns if pattern not in PLAN_PATTERNS]
    if unknown:
        raise ActivsparseError(
            f"pattern {unknown[0]!r} is unknown; choose of {', '.join(PLAN_PATTERNS)}"
        )
    shape = layer.conv.output
    found: list[ExactMask] = []
    if "tiles" in patterns:
        found += _tiles(layer, table, count, alone=len(patterns) == 1 or not by_time)
    if "lattice" in patterns:
        found += _spread([LatticeMask(fraction, layer.phase) for fraction in REGULAR], count)
    if "random" in patterns:
        side = min(shape) if block is None else block * 8
        block = block or (4 if side >= 32 else 2 if side >= 12 else 1)
        shares = (0.15, 0.3, 0.45, 0.6, 0.75)
        found += _spread([RandomMask(share, block, seed) for share in shares], count)
    dense = layer_cost(layer.conv, table).ms(1.0)
    options = [DENSE]
    for exact in found:
        mask = exact.mask(shape, input_size)
        option = PlanOption(exact, "zero", sparsity_of(mask))
        if not 0 < option.sparsity <= HIGHEST + 0.1 or not mask.any():
            continue
        # Zeros come from and go to layers that may be masked alike.
        live = 1 - option.sparsity if layer.source is not None else 1.0
        saved = dense - _ms(layer.conv, option, live, table)
        if not by_time or feeds or saved >= LEAST_SAVED * dense:
            options += [PlanOption(exact, fill, option.sparsity) for fill in fills]
    return options


def times(
    layer: PlanLayer,
    options: Sequence[PlanOption],
    before: Sequence[PlanOption] | None = None,
    table: TimeTable | None = None,
) -> FloatArray:
    """Estimated ms of each option: (options of the layer before, options), or one row."""
    live = [1.0] if before is None else [1 - option.zeros for option in before]
    cached = {
        share: [_ms(layer.conv, option, share, table) for option in options] for share in set(live)
    }
    return np.array([cached[share] for share in live])


def macs(layer: PlanLayer, options: Sequence[PlanOption]) -> FloatArray:
    """Multiply-adds of each option, in millions: (1, options)."""
    dense = layer.conv.macs
    return np.array([[1e-6 * dense * (1 - option.sparsity) for option in options]])


def _ms(conv: ConvShape, option: PlanOption, live: float, table: TimeTable | None) -> float:
    exact, cost = option.exact, layer_cost(conv, table)
    if isinstance(exact, BandMask):
        runs = [Kept(exact.rows, conv.output[1], run) for run in RUNS]
        ms = min(cost.ms(1 - option.sparsity, run, live) for run in runs)
    else:
        kept = Kept(exact.rows, exact.columns, exact.run) if isinstance(exact, TilesMask) else None
        ms = cost.ms(1 - option.sparsity, kept, live)
    if option.fill == "nearest":
        copied = option.sparsity * conv.positions * conv.out_channels
        ms += copied * (table or default_table()).fill_ms
    return ms


def _tiles(layer: PlanLayer, table: TimeTable | None, count: int, alone: bool) -> list[ExactMask]:
    """Tiles that save time step by step; where Winograd cannot run, only if nothing else is asked.

    There a lattice saves as much.
    """
    if not layer.conv.winograd and not alone:
        return []
    pattern = "auto" if layer.conv.winograd else "tiles"
    found = [
        possible
        for possible in possible_masks(layer.conv, pattern, layer.phase, table)
        if isinstance(possible.layout, Kept) and possible.sparsity <= HIGHEST
    ]
    steps: list[PossibleMask] = []
    for possible in found:  # by sparsity
        if not steps or possible.cost < steps[-1].cost * (1 - LEAST_SAVED):
            steps.append(possible)
    # Evenly spread in what they cost, the dense one left out.
    wanted = np.linspace(steps[0].cost, steps[-1].cost, count + 1)[1:]
    costs = np.array([step.cost for step in steps])
    places = dict.fromkeys(int(np.argmin(np.abs(costs - cost))) for cost in wanted)
    layouts = [steps[at].layout for at in places if steps[at].sparsity > 0]
    return [TilesMask(*kept, layer.phase) for kept in layouts if isinstance(kept, Kept)]


def _spread(masks: Sequence[ExactMask], count: int) -> list[ExactMask]:
    """So many of them, the first few fewer and the last in any case."""
    places = np.linspace(len(masks) - 1, 0, min(count, len(masks)))
    return [masks[at] for at in sorted({round(place) for place in places.tolist()})]
