"""One choice per layer at the least cost whose sparsities add up: a knapsack.

What a choice costs may depend on what was chosen one layer before, as far as its *group* goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Choices", "least_cost"]

_UNIT = 0.004
"""Sparsities are added up in steps of this: the mean is off by at most half of it."""

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Choices:
    """what one layer may choose from.

    Attributes:
        misses: (n,) what each choice's sparsity is above the requested one.
        costs: (groups of the layer before or more, n) what each costs, in any unit; one row where
            the layer before does not matter.
        groups: (n,) the group of each choice, which the next layer's costs may depend on: 0, 1, ...
    """

    misses: FloatArray
    costs: FloatArray
    groups: IntArray


def least_cost(layers: Sequence[Choices], tolerances: Sequence[float]) -> list[int]:
    """Pick one choice per layer with the least sum of costs, by dynamic programming.

    Args:
        layers: the choices of each; the first layer's costs have one row.
        tolerances: how far the mean miss may be from 0; the first that can be met counts. Where
            none can, the mean miss is the least possible.

    Returns:
        Index of the choice of each layer.
    """
    steps = [np.rint(layer.misses / _UNIT).astype(np.int64) for layer in layers]
    # best[g, k]: least cost of the layers so far whose last is of group g and whose misses sum to
    # low + k steps.
    best, low = np.zeros((1, 1)), 0
    taken: list[tuple[npt.NDArray[np.int16], npt.NDArray[np.int16]]] = []
    for layer, step in zip(layers, steps, strict=True):
        lowest, reach = int(step.min()), int(step.max() - step.min())
        if len(layer.costs) == 1:
            before = best.argmin(axis=0)
            best = best.min(axis=0, keepdims=True)
        else:
            before = None
        size = best.shape[1]
        total = np.full((int(layer.groups.max()) + 1, size + reach), np.inf)
        index = np.zeros(total.shape, dtype=np.int16)
        origin = np.zeros(total.shape, dtype=np.int16)
        for at in _worth_trying(layer, step):
            sums = best + layer.costs[: len(best), at, None]
            group = before if before is not None else sums.argmin(axis=0)
            sums = sums.min(axis=0)
            to = (
                int(layer.groups[at]),
                slice(int(step[at]) - lowest, int(step[at]) - lowest + size),
            )
            better = sums < total[to]
            np.copyto(total[to], sums, where=better)
            np.copyto(index[to], np.int16(at), where=better)
            np.copyto(origin[to], group.astype(np.int16), where=better)
        best, low = total, low + lowest
        taken.append((index, origin))

    missed = np.abs(np.arange(best.shape[1]) + low)
    nearest = int(missed[np.isfinite(best).any(axis=0)].min())
    limits = [tolerance * len(steps) / _UNIT + 1e-9 for tolerance in tolerances]
    limit = next((limit for limit in limits if limit >= nearest), nearest)
    ending = np.where(missed <= limit, best, np.inf)
    group, place = (int(i) for i in np.unravel_index(int(ending.argmin()), ending.shape))
    choices: list[int] = []
    for step, (index, origin) in zip(reversed(steps), reversed(taken), strict=True):
        choices.append(int(index[group, place]))
        group = int(origin[group, place])
        place -= int(step[choices[-1]] - step.min())
    return choices[::-1]


def _worth_trying(layer: Choices, step: IntArray) -> IntArray:
    """The cheapest of each number of steps and each group, under any group before."""
    found = []
    for costs in layer.costs:
        order = np.lexsort((costs, layer.groups, step))
        pairs = np.stack([step[order], layer.groups[order]])
        found.append(order[np.unique(pairs, axis=1, return_index=True)[1]])
    return np.unique(np.concatenate(found))
