"""The paired interval against drawing images anew, one by one."""

from __future__ import annotations

import numpy as np
import pytest

from activsparse.pipeline.score import Score, in_words, paired_interval


@pytest.mark.parametrize("seed", range(3))
def test_the_interval_is_that_of_drawn_images(seed):
    rng = np.random.default_rng(seed)
    count = int(rng.integers(150, 400))
    dense = rng.random(count) < 0.9
    masked = np.where(rng.random(count) < 0.1, ~dense, dense)
    drawn = rng.integers(0, count, (10_000, count))
    differences = dense[drawn].mean(axis=1) - masked[drawn].mean(axis=1)
    expected = np.quantile(differences, (0.025, 0.975))
    found = paired_interval(dense, masked)
    # Both ends are multiples of 1/count, drawn twice.
    np.testing.assert_allclose(found, expected, atol=2.1 / count, err_msg=f"seed {seed}, {count}")
    assert found == paired_interval(dense, masked)


def test_what_is_lost_is_net():
    labels = np.array([0, 1, 2, 3])
    said = {"dense": np.array([0, 1, 2, 0]), "masked": np.array([0, 0, 0, 3])}
    score = Score(labels, said)
    assert (score.value("dense"), score.value("masked")) == (0.75, 0.5)
    assert score.lost("masked") == 0.25
    low, high = score.interval("masked")
    assert low <= 0.25 <= high
    same = Score(labels, {"dense": labels, "masked": labels})
    assert same.interval("masked") == (0.0, 0.0)


@pytest.mark.parametrize(
    ("lost", "interval", "words"),
    [
        (0.023, (0.005, 0.041), "2.3 points lost (paired 95 % interval 0.5 to 4.1)"),
        (-0.001, (-0.02, 0.0), "0.1 points gained (paired 95 % interval 0.0 to 2.0)"),
        (0.0, (-0.0002, 0.0002), "0.0 points lost (paired 95 % interval 0.0 to 0.0)"),
        (-0.0001, (-0.0004, 0.0003), "0.0 points gained (paired 95 % interval 0.0 to 0.0)"),
    ],
)
def test_no_zero_has_a_sign(lost, interval, words):
    assert in_words(lost, interval) == words
