"""One optimisation: the masks of all layers with the least measured loss within a time.

Losses of layers do not add up. So each layer is first measured with all others dense; and once
there is a solution, again with the others masked as it says: what adds up near a solution is the
difference from it. Of all solutions that were measured as a whole the best is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt

from activsparse.masks.chains import chains
from activsparse.masks.frontier import Frontier, LayerChoices, frontier
from activsparse.masks.mask_plan import MaskPlan, PlannedLayer
from activsparse.masks.plan_units import Costs, PlanUnit, UnitOption, unit_costs
from activsparse.train.plan.losses import LayerOptions

__all__ = ["Planner"]

FloatArray = npt.NDArray[np.float64]
Picks = tuple[int, ...]
"""Index of the option of each unit; 0 is dense."""

Losses = Callable[
    [Sequence[LayerOptions], Sequence[str], str | None, Callable[[float], None]], Sequence[float]
]
"""(Variants, each in words, first layer in which they differ, told the share that is done)."""

_NEVER = 1e9
"""Loss of what is not chosen."""

_RISK = 1e-6
"""Of masks that lose equally little the sparser ones are still a greater risk."""


class Planner:
    """The search for a network's masks.

    Args:
        units: the convolutions that may be masked, alone or by residual branch, in the order of
            execution.
        options: of each, dense first.
        losses: of the network under options (with their sizes) of its layers, see `MeasuredLoss`.
        costs: (layer, its options, the options of the layer whose zeros it reads or None) ->
            (those or 1, options), in any unit.
        advance: told how many of how many measurements of a round are done, and of which unit.
    """

    def __init__(
        self,
        units: Sequence[PlanUnit],
        options: Sequence[Sequence[UnitOption]],
        losses: Losses,
        costs: Costs,
        advance: Callable[[int, int, str], None] = lambda done, total, what: None,
    ) -> None:
        self.units, self.options = list(units), [list(of_unit) for of_unit in options]
        self._losses_of, self._advance = losses, advance
        found = chains([unit.source for unit in units])
        self._order = [i for chain in found for i in chain]
        follows = {chain[at]: chain[at - 1] for chain in found for at in range(1, len(chain))}
        self._before, self._costs_of = follows, costs
        self._costs = {
            i: unit_costs(
                units[i], options[i], options[follows[i]] if i in follows else None, costs
            )
            for i in range(len(units))
        }
        self._losses: list[FloatArray] = [np.zeros(len(of_unit)) for of_unit in options]
        self._frontier: Frontier | None = None

    @property
    def dense(self) -> Picks:
        """All units dense."""
        return (0,) * len(self.units)

    def measure(self, around: Picks | None = None) -> None:
        """Measure the options of every unit, the others masked as `around` says.

        Around a solution those are left out, and not chosen any more, that lost more than a cheaper
        one did.
        """
        tried: list[Sequence[int]] = [range(len(of_unit)) for of_unit in self.options]
        if around is None:
            around = self.dense
        else:
            tried = [self._undominated(i, around[i]) for i in range(len(self.units))]
        total, done = sum(map(len, tried)), 0
        for i, unit in enumerate(self.units):
            tell = partial(self._tell, unit.name, done, len(tried[i]), total)
            self._losses[i] = self._rises(i, tried[i], around, tell)
            done += len(tried[i])
        self._frontier = None

    def _undominated(self, i: int, picked: int) -> Sequence[int]:
        """Options of a unit that none is better than: as cheap, as harmless, as many zeros."""
        zeros = np.array([option.parts[-1].zeros for option in self.options[i]])
        if i not in self._before.values():
            zeros[:] = 0  # nobody saves by them
        figures = np.vstack([self._costs[i], self._losses[i], -zeros])
        no_worse = (figures[:, :, None] <= figures[:, None, :]).all(0)
        better = no_worse & (figures[:, :, None] < figures[:, None, :]).any(0)
        dominated = set(np.flatnonzero(better.any(0)).tolist()) - {0, picked}
        return [at for at in range(len(self.options[i])) if at not in dominated]

    def _rises(
        self, i: int, tried: Sequence[int], around: Picks, tell: Callable[[float], None]
    ) -> FloatArray:
        """Losses above the unit's first option."""
        unit, of_unit = self.units[i], self.options[i]
        rest = "the others dense" if not any(around) else f"others of {_short(around)}"
        found = np.array(
            self._losses_of(
                [self._parts((*around[:i], at, *around[i + 1 :])) for at in tried],
                [f"{unit.name}: {of_unit[at]}; {rest}" for at in tried],
                unit.layers[0].name,
                tell,
            )
        )
        rises: FloatArray = np.full(len(of_unit), _NEVER)
        rises[tried] = rising([of_unit[at] for at in tried], found - found[0])
        return rises

    def _tell(self, name: str, done: int, count: int, total: int, share: float) -> None:
        self._advance(done + int(share * count), total, name)

    def whole_loss(self, picks: Picks, what: str = "a solution") -> float:
        """Measured loss of the network under all of these."""
        return self._losses_of([self._parts(picks)], [what], None, lambda share: None)[0]

    def _parts(self, picks: Picks) -> LayerOptions:
        return {
            layer.name: (part, layer.conv.output)
            for unit, of_unit, at in zip(self.units, self.options, picks, strict=True)
            for layer, part in zip(unit.layers, of_unit[at].parts, strict=True)
        }

    def solve(self, budget: float) -> Picks | None:
        """The least sum of losses within a cost; None where the cheapest masks cost more."""
        found = self.frontier().within(budget)
        if found is None:
            return None
        picks = dict(zip(self._order, found, strict=True))
        return tuple(picks[i] for i in range(len(self.units)))

    def frontier(self) -> Frontier:
        """All best trades of the losses measured last."""
        if self._frontier is None:
            self._frontier = frontier(
                [
                    LayerChoices(self._losses[i] + _RISK * self._sparsities(i), self._costs[i])
                    for i in self._order
                ]
            )
        return self._frontier

    def cost(self, picks: Picks) -> float:
        """Sum of costs."""
        return float(sum(self._unit_cost(i, picks) for i in range(len(self.units))))

    @property
    def least_cost(self) -> float:
        """Of the cheapest masks."""
        return float(self.frontier().costs[0])

    def plan(
        self, picks: Picks, input_size: tuple[int, int], site: str, **notes: float | int | str
    ) -> MaskPlan:
        """The mask plan of these choices."""
        layers = {}
        for i, (unit, at) in enumerate(zip(self.units, picks, strict=True)):
            # A branch's loss is told once, at its end.
            losses = [0.0] * (len(unit.layers) - 1) + [float(self._losses[i][at])]
            parts = self.options[i][at].parts
            for layer, part, loss in zip(unit.layers, parts, losses, strict=True):
                ms = (
                    self._costs_of(layer, [part], None)[0, 0]
                    if unit.branch
                    else self._unit_cost(i, picks)
                )
                layers[layer.name] = PlannedLayer(
                    layer.conv, part.exact, part.fill, float(ms), loss
                )
        return MaskPlan(input_size, layers, site, notes)

    def _unit_cost(self, i: int, picks: Picks) -> float:
        row = picks[self._before[i]] if i in self._before and len(self._costs[i]) > 1 else 0
        return float(self._costs[i][row, picks[i]])

    def _sparsities(self, i: int) -> FloatArray:
        return np.array([option.sparsity for option in self.options[i]])


def rising(options: Sequence[UnitOption], losses: FloatArray) -> FloatArray:
    """Losses that never fall with the sparsity of one kind of options: a dip is noise."""
    found: FloatArray = losses.copy()
    for kind in {option.kind for option in options if option.sparsity}:
        places = [
            at for at, option in enumerate(options) if option.sparsity and option.kind == kind
        ]
        places.sort(key=lambda at: options[at].sparsity)
        found[places] = np.maximum(np.maximum.accumulate(losses[places]), losses[0])
    return found


def _short(picks: Picks) -> str:
    return "".join(format(at, "x") for at in picks)
