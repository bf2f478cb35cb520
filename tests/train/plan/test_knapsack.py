"""One choice per layer within a budget, against trying all of them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from activsparse.train.plan.knapsack import cheapest


def layers(seed: int, whole: bool) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Losses and costs of a few layers; some choices are not to be taken."""
    rng = np.random.default_rng(seed)
    losses, costs = [], []
    for _ in range(int(rng.integers(1, 5))):
        choices = int(rng.integers(1, 6))
        loss = rng.random(choices)
        loss[1:][rng.random(choices - 1) < 0.2] = np.inf
        losses.append(rng.permutation(loss))
        cost = rng.integers(0, 9, choices) if whole else rng.uniform(0, 9, choices)
        costs.append(cost.astype(np.float64))
    return losses, costs


def least_loss(losses: list[np.ndarray], costs: list[np.ndarray], budget: float) -> float:
    """The best of all combinations."""
    found = np.inf
    for picks in itertools.product(*(range(len(loss)) for loss in losses)):
        if sum(c[i] for c, i in zip(costs, picks, strict=True)) <= budget + 1e-9:
            found = min(found, sum(loss[i] for loss, i in zip(losses, picks, strict=True)))
    return float(found)


def least_cost(losses: list[np.ndarray], costs: list[np.ndarray]) -> float:
    return sum(float(c[np.isfinite(loss)].min()) for c, loss in zip(costs, losses, strict=True))


@pytest.mark.parametrize("seed", range(60))
def test_costs_in_whole_units_give_the_best_of_all(seed: int) -> None:
    losses, costs = layers(seed, whole=True)
    least = least_cost(losses, costs)
    for spare in (0, 1, 2, 5, 100):
        picks = cheapest(losses, costs, least + spare, 1.0)
        loss = sum(float(c[i]) for c, i in zip(losses, picks, strict=True))
        spent = sum(float(c[i]) for c, i in zip(costs, picks, strict=True))
        assert spent <= least + spare, (seed, spare)
        assert loss == pytest.approx(least_loss(losses, costs, least + spare)), (seed, spare)


@pytest.mark.parametrize("seed", range(60))
def test_rounding_never_breaks_the_budget(seed: int) -> None:
    losses, costs = layers(seed, whole=False)
    least = least_cost(losses, costs)
    for spare in (0.0, 0.3, 1.7, 4.2):
        for unit in (0.05, 0.7):
            picks = cheapest(losses, costs, least + spare, unit)
            spent = sum(float(c[i]) for c, i in zip(costs, picks, strict=True))
            assert spent <= least + spare + 1e-6, (seed, spare, unit)
            loss = sum(float(c[i]) for c, i in zip(losses, picks, strict=True))
            # Rounding up costs at most a unit per layer.
            tight = max(spare - unit * (len(losses) + 1), 0.0)
            assert loss <= least_loss(losses, costs, least + tight) + 1e-9, (seed, spare, unit)
