"""What a mask plan chooses together: a layer by itself, or all layers of a residual branch.

The masks of a branch belong together: what its last layer does not read, the ones before it compute
for nobody. Chosen one by one they would be dear, or not found at all: a mask on a depthwise
convolution ruins the pointwise one after it, unless that one has the same mask.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from activsparse.masks.branches import band_of_branch
from activsparse.masks.exact import BandMask, ExactMask
from activsparse.masks.latency import layer_cost
from activsparse.masks.pattern import sparsity_of
from activsparse.masks.plan_options import (
    DEFAULT_PATTERNS,
    DENSE,
    LEAST_SAVED,
    PlanLayer,
    PlanOption,
    plan_options,
    times,
)
from activsparse.masks.time_table import TimeTable

__all__ = ["Costs", "PlanUnit", "UnitOption", "plan_units", "unit_costs", "unit_options"]

_KEPT = (0.75, 0.6, 0.5, 0.4, 1 / 3, 0.25)
"""Shares of rows that bands keep."""

FloatArray = npt.NDArray[np.float64]
Costs = Callable[[PlanLayer, Sequence[PlanOption], Sequence[PlanOption] | None], FloatArray]


@dataclass(frozen=True)
class PlanUnit:
    """Layers whose masks are chosen together.

    Attributes:
        layers: in the order of execution.
        source: number of the unit whose zeros arrive here, if it is zero-filled, or None: where
            both are layers by themselves.
        branch: whether a shortcut is added to them.
    """

    layers: tuple[PlanLayer, ...]
    source: int | None = None
    branch: bool = False

    @property
    def name(self) -> str:
        """The layers', for reports."""
        return " ... ".join(dict.fromkeys((self.layers[0].name, self.layers[-1].name)))


@dataclass(frozen=True)
class UnitOption:
    """One choice for a unit: an option for each of its layers.

    Attributes:
        parts: of the layers, in their order.
        sparsity: share of the unit's multiply-adds that is skipped.
    """

    parts: tuple[PlanOption, ...]
    sparsity: float

    @property
    def kind(self) -> tuple[object, ...]:
        """Of options of one kind the sparser one never loses less."""
        last = self.parts[-1]
        top = isinstance(last.exact, BandMask) and last.exact.first == 0
        return (last.exact.pattern, last.fill, top)

    def __str__(self) -> str:
        return str(self.parts[-1])


def unit_option(unit: PlanUnit, parts: Sequence[PlanOption]) -> UnitOption:
    """An option of a unit."""
    macs = np.array([x.conv.macs for x in unit.layers], float)
    skipped = np.array([part.sparsity for part in parts])
    return UnitOption(tuple(parts), float((macs * skipped).sum() / macs.sum()))


def plan_units(
    layers: Sequence[PlanLayer], branches: Sequence[Sequence[str]] = ()
) -> list[PlanUnit]:
    """Layers by branch, and the others by themselves, in the order of execution.

    Args:
        layers: their `source` counts layers.
        branches: names of layers that belong together.
    """
    numbers = {layer.name: at for at, layer in enumerate(layers)}
    joined = [[numbers[name] for name in branch] for branch in branches]
    taken = {at for group in joined for at in group}
    groups = sorted([*joined, *([at] for at in range(len(layers)) if at not in taken)])
    number = {group[0]: at for at, group in enumerate(groups) if group[0] not in taken}
    units = []
    for group in groups:
        source = layers[group[0]].source if group[0] in number else None
        units.append(
            PlanUnit(
                tuple(layers[at] for at in group),
                None if source is None else number.get(source),
                branch=group[0] in taken,
            )
        )
    return units


def unit_options(
    unit: PlanUnit, input_size: tuple[int, int], *, feeds: bool = False, **how: Any
) -> list[UnitOption]:
    """The options of a unit, dense first.

    Args:
        unit: the layers.
        input_size: (H, W) of the network's input.
        feeds: see `plan_options`.
        how: see `branch_options`.
    """
    if unit.branch:
        return branch_options(unit, input_size, **how)
    how["patterns"] = [pattern for pattern in how["patterns"] if pattern != "band"]
    options = plan_options(unit.layers[0], input_size, feeds=feeds, **how)
    return [UnitOption((option,), option.sparsity) for option in options]


def branch_options(
    unit: PlanUnit,
    input_size: tuple[int, int],
    *,
    table: TimeTable | None = None,
    patterns: Sequence[str] = DEFAULT_PATTERNS,
    fills: Sequence[str] = ("zero", "nearest"),
    count: int = 4,
    block: int | None = None,
    seed: int = 0,
    by_time: bool = True,
) -> list[UnitOption]:
    """The options of a residual branch, dense first.

    Bands of rows at the top and at the bottom of the map. Of the other patterns, with fill `zero`
    the masks of the last layer, which the layers before it share as far as only pointwise
    convolutions read them; with `nearest` each layer has its own.

    Args:
        unit: the branch.
        input_size: (H, W) of the network's input.
        table: of times.
        patterns: of `PLAN_PATTERNS`.
        fills: `zero`, `nearest` or both.
        count: masks of each pattern at most; twice as many bands, half of them at the bottom.
        block: see `plan_options`.
        seed: see `plan_options`.
        by_time: leave out what saves no time.
    """
    found = [(DENSE,) * len(unit.layers)]
    if "band" in patterns:
        found += _bands(unit, count)
    others = [pattern for pattern in patterns if pattern != "band"]
    if others:
        each = [
            plan_options(
                layer,
                input_size,
                table=table,
                patterns=others,
                fills=fills,
                count=count,
                block=block,
                seed=seed,
                by_time=False,
            )
            for layer in unit.layers
        ]
        found += [_shared(unit, last) for last in each[-1] if last.fill == "zero"]
        found += [_together(each, last) for last in each[-1] if last.fill == "nearest"]
    options = [unit_option(unit, parts) for parts in dict.fromkeys(found)]
    dense = sum(layer_cost(layer.conv, table).ms(1.0) for layer in unit.layers)
    return [
        option
        for option in options
        if not by_time
        or not option.sparsity
        or dense - _ms(unit, option, table) >= LEAST_SAVED * dense
    ]


def unit_costs(
    unit: PlanUnit,
    options: Sequence[UnitOption],
    before: Sequence[UnitOption] | None,
    costs: Costs,
) -> FloatArray:
    """Costs of a unit's options: (options of the unit before, options), or one row.

    Args:
        unit: the layers.
        options: of them.
        before: options of the unit whose zeros arrive here, or None.
        costs: of the options of one layer, given those of the one before.
    """
    if not unit.branch:
        own = [option.parts[0] for option in options]
        return costs(unit.layers[0], own, None if before is None else [b.parts[-1] for b in before])
    return sum(
        (
            costs(layer, [option.parts[at] for option in options], None)
            for at, layer in enumerate(unit.layers)
        ),
        np.zeros((1, len(options))),
    )


def _ms(unit: PlanUnit, option: UnitOption, table: TimeTable | None) -> float:
    both = zip(unit.layers, option.parts, strict=True)
    return float(sum(times(layer, [part], table=table)[0, 0] for layer, part in both))


def _bands(unit: PlanUnit, count: int) -> list[tuple[PlanOption, ...]]:
    shapes = {layer.name: layer.conv for layer in unit.layers}
    height = unit.layers[-1].conv.output[0]
    places = np.linspace(0, len(_KEPT) - 1, min(count, len(_KEPT))).round().astype(int)
    found = []
    for kept in dict.fromkeys(max(1, round(_KEPT[at] * height)) for at in places):
        for first in (0, height - kept):
            bands = band_of_branch(list(shapes), shapes, BandMask(first, kept))
            found.append(tuple(_option(layer, bands[layer.name]) for layer in unit.layers))
    return found


def _option(layer: PlanLayer, exact: ExactMask) -> PlanOption:
    sparsity = sparsity_of(exact.mask(layer.conv.output, layer.conv.output))
    return PlanOption(exact, "zero", sparsity) if sparsity else DENSE


def _shared(unit: PlanUnit, last: PlanOption) -> tuple[PlanOption, ...]:
    """The mask of the last layer on all before it that only pointwise convolutions read."""
    parts = [last]
    for reader in unit.layers[:0:-1]:
        if not reader.conv.pointwise:
            break
        parts.append(last)
    return (DENSE,) * (len(unit.layers) - len(parts)) + tuple(parts)


def _together(each: Sequence[Sequence[PlanOption]], last: PlanOption) -> tuple[PlanOption, ...]:
    """In each layer the filled mask of the same pattern whose sparsity is nearest to the last's."""
    parts = []
    for options in each:
        alike = [
            option
            for option in options
            if option.fill == "nearest" and option.exact.pattern == last.exact.pattern
        ]
        parts.append(min(alike, key=lambda o: abs(o.sparsity - last.sparsity), default=DENSE))
    return tuple(parts)
