"""One choice per layer: every best trade of loss against cost, by dynamic programming.

Losses add up, and so do costs, but what a choice costs may depend on what was chosen one layer
before. A *label* is a choice for each layer so far, with its sums; of labels that end in the same
choice only those count that no other beats in both sums (Vincke's dynamic programming for several
objectives). What is left at the end is the frontier: the least loss for every budget at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

__all__ = ["Frontier", "LayerChoices", "frontier"]

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LayerChoices:
    """What one layer may choose from.

    Attributes:
        losses: (n,) what each choice adds to the loss.
        costs: (n of the layer before, n), or (1, n) where the layer before does not matter.
    """

    losses: FloatArray
    costs: FloatArray


@dataclass(frozen=True)
class Frontier:
    """The best trades, cheapest first; loss falls as cost grows.

    Attributes:
        costs, losses: (m,) sums over all layers.
        picks: (m, layers), index of the choice of each layer.
    """

    costs: FloatArray
    losses: FloatArray
    picks: IntArray

    def within(self, budget: float) -> list[int] | None:
        """The choices of least loss whose cost is at most `budget`; None where none is."""
        # A sum may be off its own budget by rounding.
        at = int(np.searchsorted(self.costs, budget * (1 + 1e-12), side="right")) - 1
        return None if at < 0 else [int(pick) for pick in self.picks[at]]


def frontier(layers: Sequence[LayerChoices], most: int = 2000) -> Frontier:
    """Find the frontier.

    Args:
        layers: the choices of each, in an order in which a layer whose costs have several rows
            follows the layer they depend on.
        most: so many labels are kept per choice; with fewer the frontier is exact, of more the best
            in each of as many equal steps of cost.
    """
    # Labels in groups by the choice they end in; one group where the next layer does not care.
    ends = [np.zeros(1, dtype=np.int64)]
    costs, losses = np.zeros(1), np.zeros(1)
    steps: list[tuple[IntArray, IntArray]] = []
    for place, layer in enumerate(layers):
        matters = place + 1 < len(layers) and len(layers[place + 1].costs) > 1
        found = []
        for at, loss in enumerate(layer.losses):
            more = np.empty(len(costs))
            for before, end in enumerate(ends):
                more[end] = layer.costs[before if len(layer.costs) > 1 else 0, at]
            found.append(_best(costs + more, losses + loss, most))
        origin = np.concatenate([label for label, _, _ in found])
        choice = np.repeat(np.arange(len(found)), [len(label) for label, _, _ in found])
        costs = np.concatenate([cost for _, cost, _ in found])
        losses = np.concatenate([loss for _, _, loss in found])
        if matters:
            bounds = np.cumsum([0, *(len(label) for label, _, _ in found)])
            ends = [np.arange(a, b) for a, b in pairwise(bounds)]
        else:
            kept, costs, losses = _best(costs, losses, most)
            origin, choice = origin[kept], choice[kept]
            ends = [np.arange(len(kept))]
        steps.append((choice, origin))

    label = np.arange(len(costs))
    picks = np.empty((len(costs), len(layers)), dtype=np.int64)
    for place in range(len(layers) - 1, -1, -1):
        choice, origin = steps[place]
        picks[:, place] = choice[label]
        label = origin[label]
    return Frontier(costs, losses, picks)


def _best(
    costs: FloatArray, losses: FloatArray, most: int
) -> tuple[IntArray, FloatArray, FloatArray]:
    """Which labels no other beats, cheapest first, with their sums."""
    order = np.lexsort((losses, costs))
    order = order[np.isfinite(costs[order]) & np.isfinite(losses[order])]
    loss = losses[order]
    before = np.concatenate([[np.inf], np.minimum.accumulate(loss)[:-1]])
    kept = order[loss < before]
    if len(kept) > most:
        step = (costs[kept[-1]] - costs[kept[0]]) / most
        bucket = ((costs[kept] - costs[kept[0]]) / step).astype(np.int64)
        last = np.append(np.diff(bucket) > 0, True)
        last[0] = True  # the cheapest of all may be the only one within a budget
        kept = kept[last]
    return kept, costs[kept], losses[kept]
