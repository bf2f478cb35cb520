"""Interleaved timing with robust statistics.

A shared machine drifts: clock frequency, neighbours, temperature. Contenders that are timed one
after the other each meet another machine, so here every round visits all of them, each round in an
order of its own so that none always follows the same neighbour. Each visit opens with one untimed
call, which brings the contender's weights back into the caches and lets another engine's idle
threads go to sleep: what is timed is steady repetition.

The clock is the wall's. It is the only one that means anything with several threads, and with one
thread it counts what a user waits for; medians bear what else the machine does now and then, and
visits during which others' load slowed the processor down are taken again (pace.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from activsparse.bench.pace import Pace

__all__ = ["Ratio", "Timing", "time_interleaved", "visit_order"]

CALLS_PER_VISIT = 5


@dataclass(frozen=True)
class Timing:
    """Times of one contender, milliseconds, in the order they were taken."""

    samples_ms: npt.NDArray[np.float64]

    @property
    def median_ms(self) -> float:
        """Median of the samples."""
        return float(np.median(self.samples_ms))

    @property
    def mad_ms(self) -> float:
        """Median absolute deviation from the median (unscaled)."""
        return float(np.median(np.abs(self.samples_ms - np.median(self.samples_ms))))

    @property
    def min_ms(self) -> float:
        """The fastest sample."""
        return float(self.samples_ms.min())

    def percentile_ms(self, percent: float) -> float:
        """So many percent of the samples are at most this."""
        return float(np.percentile(self.samples_ms, percent))

    @property
    def visits_ms(self) -> npt.NDArray[np.float64]:
        """Median of every visit, in the order of rounds."""
        return np.array(
            [
                np.median(self.samples_ms[start : start + CALLS_PER_VISIT])
                for start in range(0, len(self.samples_ms), CALLS_PER_VISIT)
            ]
        )


@dataclass(frozen=True)
class Ratio:
    """How many times as fast one contender was as another: the median over rounds, and its spread.

    What slows the machine down for seconds slows both visits of a round, so that a ratio of
    medians over all rounds moves by half as much again.

    Attributes:
        median: of the rounds' ratios.
        mad: their median absolute deviation from it (unscaled).
    """

    median: float
    mad: float

    @classmethod
    def of_rounds(cls, slower_ms: npt.ArrayLike, faster_ms: npt.ArrayLike) -> Ratio:
        """Of two contenders' visits, ms, taken in the same rounds."""
        rounds = np.asarray(slower_ms, np.float64) / np.asarray(faster_ms, np.float64)
        median = float(np.median(rounds))
        return cls(median, float(np.median(np.abs(rounds - median))))


def visit_order(count: int, round_index: int) -> list[int]:
    """The order of `count` contenders in a round: a random one, the same in every run."""
    return [int(index) for index in np.random.default_rng(round_index).permutation(count)]


def time_interleaved(
    contenders: Mapping[str, Callable[[], object]],
    repeat: int,
    *,
    warmup: int = 3,
    advance: Callable[[int], None] = lambda samples: None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
    pace: Pace | None = None,
) -> dict[str, Timing]:
    """Take `repeat` samples of every contender.

    Args:
        contenders: name to the call to time.
        repeat: samples per contender, taken in visits of up to `CALLS_PER_VISIT` calls.
        warmup: untimed calls per contender before the first round.
        advance: told after every visit how many samples it took (for a progress bar).
        clock_ns: the clock, nanoseconds.
        pace: watches the processor's speed: disturbed visits are taken again as long as it has
            patience, those at the start that only turn out to be so later at the end.
    """
    names = list(contenders)
    for call in contenders.values():
        for _ in range(warmup):
            call()

    def visit(name: str, count: int) -> list[int]:
        call = contenders[name]
        times: list[int] = []
        call()
        for _ in range(count):
            start = clock_ns()
            call()
            times.append(clock_ns() - start)
        return times

    taken: dict[str, list[tuple[list[int], float]]] = {name: [] for name in names}
    for round_index, before in enumerate(range(0, repeat, CALLS_PER_VISIT)):
        count = min(CALLS_PER_VISIT, repeat - before)
        for index in visit_order(len(names), round_index):
            once = partial(visit, names[index], count)
            if pace is None:
                taken[names[index]].append((once(), 0.0))
            else:
                found = pace.watch(once)
                if not pace.is_full(found[1]):
                    found = pace.repeat(once) or found
                taken[names[index]].append(found)
            advance(count)
    if pace is not None:
        for name, visits in taken.items():
            for i, (times, speed) in enumerate(visits):
                if not pace.is_full(speed):
                    visits[i] = pace.repeat(partial(visit, name, len(times))) or visits[i]
            pace.disturbed += sum(not pace.is_full(speed) for _, speed in visits)
    return {
        name: Timing(np.array([ns for times, _ in visits for ns in times], np.float64) / 1e6)
        for name, visits in taken.items()
    }
