import itertools

import numpy as np
import pytest

from activsparse.masks.budget import Choices, least_cost


@pytest.mark.parametrize("seed", range(20))
def test_equals_trying_everything(seed):
    rng = np.random.default_rng(seed)
    # Multiples of the unit, so that sums are exact.
    misses = [0.004 * rng.integers(-30, 31, 5) for _ in range(4)]
    # The second and the last layer depend on the one before.
    rows = (1, 3, 1, 2)
    costs = [rng.random((count, 5)) for count in rows]
    groups = [rng.permutation(5) % count for count in (*rows[1:], 1)]
    layers = [Choices(*layer) for layer in zip(misses, costs, groups, strict=True)]
    found = least_cost(layers, (0.004, 0.02))

    def cost(picks):
        before = [0, *(group[i] for group, i in zip(groups, picks, strict=True))]
        return sum(c[before[k] if len(c) > 1 else 0, picks[k]] for k, c in enumerate(costs))

    every = list(itertools.product(range(5), repeat=4))
    means = {
        picks: round(abs(sum(m[i] for m, i in zip(misses, picks, strict=True))) / 4, 9)
        for picks in every
    }
    nearest = min(means.values())
    limit = next((limit for limit in (0.004, 0.02) if nearest <= limit), nearest)
    best = min(cost(picks) for picks in every if means[picks] <= limit)
    assert means[tuple(found)] <= limit, seed
    assert cost(found) == pytest.approx(best), seed
