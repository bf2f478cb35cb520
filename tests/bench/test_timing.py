"""Interleaving and statistics, with fake contenders and a fake clock."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from activsparse.bench.timing import CALLS_PER_VISIT, Ratio, Timing, time_interleaved, visit_order


def test_statistics_equal_numpy():
    samples = np.random.default_rng(1).exponential(2.0, 101)
    timing = Timing(samples)
    assert timing.median_ms == np.percentile(samples, 50)
    assert timing.mad_ms == np.percentile(np.abs(samples - np.percentile(samples, 50)), 50)
    assert timing.min_ms == samples.min()


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_contender_takes_every_place_and_meets_every_neighbour(count: int):
    orders = [visit_order(count, round_index) for round_index in range(40 * count)]
    assert all(sorted(order) == list(range(count)) for order in orders)
    assert all(set(place) == set(range(count)) for place in zip(*orders, strict=True))
    pairs = {pair for order in orders for pair in itertools.pairwise(order)}
    assert len(pairs) == count * (count - 1)


def test_rounds_visit_all_each_in_its_own_order():
    calls: list[str] = []
    contenders = {name: (lambda name=name: calls.append(name)) for name in "abc"}
    timings = time_interleaved(contenders, 2 * CALLS_PER_VISIT, warmup=2)
    visit = CALLS_PER_VISIT + 1
    warm, rounds = calls[:6], calls[6:]
    assert warm == list("aabbcc")
    orders = [visit_order(3, 0), visit_order(3, 1)]
    assert rounds[::visit] == ["abc"[index] for order in orders for index in order]
    assert all(len(set(rounds[i : i + visit])) == 1 for i in range(0, len(rounds), visit))
    assert {name: timing.samples_ms.size for name, timing in timings.items()} == dict.fromkeys(
        "abc", 2 * CALLS_PER_VISIT
    )


@pytest.mark.parametrize("repeat", [1, 4, 5, 6, 13])
def test_takes_exactly_the_samples_asked_for(repeat: int):
    advanced: list[int] = []
    timings = time_interleaved(
        {"a": lambda: None, "b": lambda: None}, repeat, advance=advanced.append
    )
    assert all(timing.samples_ms.shape == (repeat,) for timing in timings.values())
    assert sum(advanced) == 2 * repeat


def test_samples_are_clock_differences_in_ms():
    now = 0

    def work() -> None:
        nonlocal now
        now += 3_000_000

    timing = time_interleaved({"a": work}, 7, clock_ns=lambda: now)["a"]
    assert timing.samples_ms.tolist() == [3.0] * 7
    assert (timing.median_ms, timing.mad_ms, timing.min_ms) == (3.0, 0.0, 3.0)


def test_a_ratio_is_the_median_of_the_rounds():
    slow, fast = Timing(np.array([4.0] * 5 + [8.0] * 5 + [9.0])), Timing(np.array([2.0] * 11))
    np.testing.assert_array_equal(slow.visits_ms, [4.0, 8.0, 9.0])
    ratio = Ratio.of_rounds(slow.visits_ms, fast.visits_ms)
    assert (ratio.median, ratio.mad) == (4.0, 0.5)
