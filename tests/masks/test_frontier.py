"""The frontier of loss against cost, against trying all combinations."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from activsparse.masks.frontier import LayerChoices, frontier


def network(seed: int, layers: int = 5) -> list[LayerChoices]:
    """A few layers; of some the cost depends on the choice before."""
    rng = np.random.default_rng(seed)
    found: list[LayerChoices] = []
    for _ in range(int(rng.integers(1, layers + 1))):
        count = int(rng.integers(1, 5))
        follows = bool(found) and rng.random() < 0.5
        rows = len(found[-1].losses) if follows else 1
        costs = rng.uniform(0.1, 4, (rows, count))
        if rng.random() < 0.3:
            costs = np.rint(costs)  # ties
        losses = rng.uniform(-0.1, 1, count)
        losses[1:][rng.random(count - 1) < 0.15] = np.inf
        found.append(LayerChoices(losses, costs))
    return found


def sums(layers: list[LayerChoices], picks: tuple[int, ...]) -> tuple[float, float]:
    cost = loss = 0.0
    for place, (layer, at) in enumerate(zip(layers, picks, strict=True)):
        cost += float(layer.costs[picks[place - 1] if len(layer.costs) > 1 else 0, at])
        loss += float(layer.losses[at])
    return cost, loss


@pytest.mark.parametrize("seed", range(150))
def test_the_least_loss_within_every_budget(seed: int) -> None:
    layers = network(seed)
    every = [
        sums(layers, picks)
        for picks in itertools.product(*(range(len(layer.losses)) for layer in layers))
    ]
    every = [both for both in every if np.isfinite(both[1])]
    found = frontier(layers)
    for cost, loss, picks in zip(found.costs, found.losses, found.picks, strict=True):
        assert sums(layers, tuple(picks)) == pytest.approx((cost, loss)), seed
    least, most = min(c for c, _ in every), max(c for c, _ in every)
    for budget in [least, most, *np.random.default_rng(seed).uniform(least, most, 8)]:
        picks = found.within(budget)
        assert picks is not None, (seed, budget)
        cost, loss = sums(layers, tuple(picks))
        assert cost <= budget * (1 + 1e-9), (seed, budget)
        best = min(other for spent, other in every if spent <= budget * (1 + 1e-13))
        assert loss == pytest.approx(best), (seed, budget)
    assert found.within(least * 0.99 - 0.01) is None


@pytest.mark.parametrize("seed", range(6))
def test_more_budget_never_loses_more(seed: int) -> None:
    rng = np.random.default_rng(seed)
    layers = [
        LayerChoices(rng.random(8), rng.uniform(0.1, 3, (8 if i % 2 else 1, 8))) for i in range(40)
    ]
    found = frontier(layers, most=100)
    assert (np.diff(found.costs) > 0).all()
    assert (np.diff(found.losses) < 0).all()
    # Few labels cost little: so many more find hardly anything better.
    exact = frontier(layers, most=4000)
    for share in (0.1, 0.4, 0.8):
        budget = found.costs[0] + share * (found.costs[-1] - found.costs[0])
        rough, fine = (sums(layers, tuple(f.within(budget) or ())) for f in (found, exact))
        assert rough[1] <= fine[1] + 0.02 * sum(layer.losses.max() for layer in layers), seed


@pytest.mark.parametrize("seed", range(6))
def test_few_labels_are_the_best_of_each_step_of_cost(seed: int) -> None:
    rng = np.random.default_rng(seed)
    costs = np.sort(rng.uniform(1, 9, 400))
    losses = np.sort(rng.uniform(0, 1, 400))[::-1]
    found = frontier([LayerChoices(losses, costs[None])], most=8)
    assert len(found.costs) <= 10
    # The cheapest and the best of all among them.
    assert found.costs[0] == costs[0]
    assert found.losses[-1] == losses[-1]
    bounds = np.linspace(costs[0], costs[-1], 9)
    for low, high in itertools.pairwise(bounds):
        within = (costs >= low) & (costs < high)
        kept = (found.costs >= low) & (found.costs < high)
        assert found.losses[kept].min() == losses[within].min(), (seed, low)
