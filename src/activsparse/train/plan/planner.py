"""One optimisation: the masks of all layers with the least measured loss within a time.

Losses of layers do not add up. So each layer is first measured with all others dense; and once
there is a solution, again with the others masked as it says: what adds up near a solution is the
difference from it. Of all solutions that were measured as a whole the best is the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from activsparse.masks.chains import chains
from activsparse.masks.frontier import Frontier, LayerChoices, frontier
from activsparse.masks.mask_plan import MaskPlan, PlannedLayer
from activsparse.masks.plan_options import PlanLayer, PlanOption

__all__ = ["Planner"]

FloatArray = npt.NDArray[np.float64]
Picks = tuple[int, ...]
"""Index of the option of each layer; 0 is dense."""

_RISK = 1e-6
"""Of masks that lose equally little the sparser ones are still a greater risk."""


class Planner:
    """The search for a network's masks.

    Args:
        layers: the convolutions that may be masked, in the order of execution.
        options: of each, dense first.
        loss: of the network under options (with their sizes) of its layers, see `MeasuredLoss`.
        costs: (layer, its options, the options of the layer before or None) -> (before or 1,
            options), in any unit.
        advance: told how many of how many measurements of a round are done, and of which layer.
    """

    def __init__(
        self,
        layers: Sequence[PlanLayer],
        options: Sequence[Sequence[PlanOption]],
        loss: Callable[[Mapping[str, tuple[PlanOption, tuple[int, int]]], str], float],
        costs: Callable[[PlanLayer, Sequence[PlanOption], Sequence[PlanOption] | None], FloatArray],
        advance: Callable[[int, int, str], None] = lambda done, total, what: None,
    ) -> None:
        self.layers, self.options = list(layers), [list(of_layer) for of_layer in options]
        self._loss, self._advance = loss, advance
        self._order = [i for chain in chains([layer.source for layer in layers]) for i in chain]
        follows = {
            chain[at]: chain[at - 1]
            for chain in chains([layer.source for layer in layers])
            for at in range(1, len(chain))
        }
        self._before = follows
        self._costs = {
            i: costs(layers[i], options[i], options[follows[i]] if i in follows else None)
            for i in range(len(layers))
        }
        self._losses: list[FloatArray] = [np.zeros(len(of_layer)) for of_layer in options]
        self._frontier: Frontier | None = None

    @property
    def dense(self) -> Picks:
        """All layers dense."""
        return (0,) * len(self.layers)

    def measure(self, around: Picks | None = None) -> None:
        """Measure every option of every layer, the others masked as `around` says."""
        around = self.dense if around is None else around
        total = sum(len(of_layer) for of_layer in self.options)
        done = 0
        for i, (layer, of_layer) in enumerate(zip(self.layers, self.options, strict=True)):
            found = np.empty(len(of_layer))
            for at, option in enumerate(of_layer):
                picks = (*around[:i], at, *around[i + 1 :])
                rest = "the others dense" if not any(around) else f"others of {_short(around)}"
                found[at] = self.whole_loss(picks, f"{layer.name}: {option}; {rest}")
                done += 1
                self._advance(done, total, layer.name)
            self._losses[i] = rising(of_layer, found - found[0])
        self._frontier = None

    def whole_loss(self, picks: Picks, what: str = "a solution") -> float:
        """Measured loss of the network under all of these."""
        return self._loss(
            {
                layer.name: (of_layer[at], layer.conv.output)
                for layer, of_layer, at in zip(self.layers, self.options, picks, strict=True)
            },
            what,
        )

    def solve(self, budget: float) -> Picks | None:
        """The least sum of losses within a cost; None where the cheapest masks cost more."""
        found = self.frontier().within(budget)
        if found is None:
            return None
        picks = dict(zip(self._order, found, strict=True))
        return tuple(picks[i] for i in range(len(self.layers)))

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
        return float(sum(self._layer_cost(i, picks) for i in range(len(self.layers))))

    @property
    def least_cost(self) -> float:
        """Of the cheapest masks."""
        return float(self.frontier().costs[0])

    def plan(
        self, picks: Picks, input_size: tuple[int, int], site: str, **notes: float | int | str
    ) -> MaskPlan:
        """The mask plan of these choices."""
        layers = {}
        for i, (layer, at) in enumerate(zip(self.layers, picks, strict=True)):
            option = self.options[i][at]
            layers[layer.name] = PlannedLayer(
                layer.conv,
                option.exact,
                option.fill,
                self._layer_cost(i, picks),
                float(self._losses[i][at]),
            )
        return MaskPlan(input_size, layers, site, notes)

    def _layer_cost(self, i: int, picks: Picks) -> float:
        row = picks[self._before[i]] if i in self._before and len(self._costs[i]) > 1 else 0
        return float(self._costs[i][row, picks[i]])

    def _sparsities(self, i: int) -> FloatArray:
        return np.array([option.sparsity for option in self.options[i]])


def rising(options: Sequence[PlanOption], losses: FloatArray) -> FloatArray:
    """Losses that never fall with the sparsity of one pattern and fill: a dip is noise."""
    found: FloatArray = losses.copy()
    kinds = {(option.exact.pattern, option.fill) for option in options if option.sparsity}
    for kind in kinds:
        places = [
            at
            for at, option in enumerate(options)
            if option.sparsity and (option.exact.pattern, option.fill) == kind
        ]
        places.sort(key=lambda at: options[at].sparsity)
        found[places] = np.maximum(np.maximum.accumulate(losses[places]), losses[0])
    return found


def _short(picks: Picks) -> str:
    return "".join(format(at, "x") for at in picks)
