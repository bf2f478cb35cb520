"""The knapsack with one choice per layer, by dynamic programming over cost."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["cheapest"]

FloatArray = npt.NDArray[np.float64]


def cheapest(
    losses: Sequence[FloatArray], costs: Sequence[FloatArray], budget: float, unit: float
) -> list[int]:
    """One choice per layer with the least sum of losses within the budget.

    Args:
        losses: (choices,) of each layer; infinite ones are not taken.
        costs: alike, in any unit.
        budget: bound of the sum of costs; the least costs must fit.
        unit: costs are rounded up to multiples of it above each layer's least.

    Returns:
        Index of the choice of each layer.
    """
    # The least costs fit; rounding up must not make them miss.
    least = [float(c[np.isfinite(loss)].min()) for c, loss in zip(costs, losses, strict=True)]
    slots = int((budget - sum(least)) / unit + 1e-9) + 1
    best = np.zeros(slots)
    taken = []
    for loss, cost, base in zip(losses, costs, least, strict=True):
        steps = np.ceil(np.maximum(cost - base, 0) / unit - 1e-9).astype(np.int64)
        total = np.full(slots, np.inf)
        pick = np.zeros(slots, dtype=np.int64)
        for at, (step, more) in enumerate(zip(steps.tolist(), loss.tolist(), strict=True)):
            if step >= slots or not np.isfinite(more):
                continue
            sums = best[: slots - step] + more
            better = sums < total[step:]
            total[step:][better] = sums[better]
            pick[step:][better] = at
        best = total
        taken.append((pick, steps))
    place, picks = int(np.argmin(best)), []
    for pick, steps in reversed(taken):
        picks.append(int(pick[place]))
        place -= int(steps[picks[-1]])
    return picks[::-1]
