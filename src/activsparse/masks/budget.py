"""One choice per layer at the least cost whose sparsities add up: a knapsack."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["choose"]

_UNIT = 0.004
"""Sparsities are added up in steps of this: the mean is off by at most half of it."""

FloatArray = npt.NDArray[np.float64]


def choose(
    misses: Sequence[FloatArray], costs: Sequence[FloatArray], tolerances: Sequence[float]
) -> list[int]:
    """Pick one choice per layer with the least sum of costs, by dynamic programming.

    Args:
        misses: per layer, what each choice's sparsity is above the requested one.
        costs: per layer, what each choice costs, in any unit.
        tolerances: how far the mean miss may be from 0; the first that can be met counts. Where
            none can, the mean miss is the least possible.

    Returns:
        Index of the choice of each layer.
    """
    steps = [np.rint(miss / _UNIT).astype(np.int64) for miss in misses]
    # best[k]: least cost of the layers so far whose misses sum to low + k steps.
    best, low = np.zeros(1), 0
    taken: list[npt.NDArray[np.int16]] = []
    for step, cost in zip(steps, costs, strict=True):
        lowest, reach = int(step.min()), int(step.max() - step.min())
        total = np.full(best.size + reach, np.inf)
        index = np.zeros(total.size, dtype=np.int16)
        for at in _cheapest_of_each(step, cost):
            to = slice(int(step[at]) - lowest, int(step[at]) - lowest + best.size)
            sums = best + cost[at]
            better = sums < total[to]
            np.copyto(total[to], sums, where=better)
            np.copyto(index[to], np.int16(at), where=better)
        best, low = total, low + lowest
        taken.append(index)

    missed = np.abs(np.arange(best.size) + low)
    nearest = int(missed[np.isfinite(best)].min())
    limits = [tolerance * len(steps) / _UNIT + 1e-9 for tolerance in tolerances]
    limit = next((limit for limit in limits if limit >= nearest), nearest)
    place = int(np.argmin(np.where(missed <= limit, best, np.inf))) + low
    choices: list[int] = []
    for step, index in zip(reversed(steps), reversed(taken), strict=True):
        choices.append(int(index[place - low]))
        place -= int(step[choices[-1]])
        low -= int(step.min())
    return choices[::-1]


def _cheapest_of_each(step: npt.NDArray[np.int64], cost: FloatArray) -> npt.NDArray[np.int64]:
    """One choice for each number of steps."""
    order = np.lexsort((cost, step))
    return order[np.unique(step[order], return_index=True)[1]]
