import itertools

import numpy as np
import pytest

from activsparse.masks.budget import choose


@pytest.mark.parametrize("seed", range(20))
def test_equals_trying_everything(seed):
    rng = np.random.default_rng(seed)
    # Multiples of the unit, so that sums are exact.
    misses = [0.004 * rng.integers(-30, 31, 5) for _ in range(4)]
    costs = [rng.random(5) for _ in range(4)]
    found = choose(misses, costs, (0.004, 0.02))

    def total(values, picks):
        return sum(v[i] for v, i in zip(values, picks, strict=True))

    every = list(itertools.product(range(5), repeat=4))
    means = {picks: round(abs(total(misses, picks)) / 4, 9) for picks in every}
    nearest = min(means.values())
    limit = next((limit for limit in (0.004, 0.02) if nearest <= limit), nearest)
    best = min(total(costs, picks) for picks in every if means[picks] <= limit)
    assert means[tuple(found)] <= limit, seed
    assert total(costs, found) == pytest.approx(best), seed
