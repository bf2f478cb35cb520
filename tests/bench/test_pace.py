"""Visits that others' load slows down are timed again, on a machine that is made up."""

from __future__ import annotations

from activsparse.bench.pace import Pace, multiply_adds
from activsparse.bench.timing import CALLS_PER_VISIT, Timing, time_interleaved

MS = 0.001


class Machine:
    """A clock, and a processor that others slow down to two thirds between some seconds."""

    def __init__(self, *slow: tuple[float, float]) -> None:
        self.now, self.slow = 0.0, slow

    def speed(self) -> float:
        self.now += MS
        return 60.0 if any(begin <= self.now < end for begin, end in self.slow) else 90.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def work(self, seconds: float = 2 * MS) -> None:
        self.now += seconds * 90 / self.speed() - MS

    def time(self, repeat: int, patience_s: float = 10.0) -> tuple[Timing, Pace]:
        pace = Pace(self.speed, patience_s, clock=lambda: self.now, sleep=self.sleep)
        timings = time_interleaved(
            {"a": self.work}, repeat, clock_ns=lambda: round(self.now * 1e9), pace=pace
        )
        assert timings["a"].samples_ms.shape == (repeat,)
        return timings["a"], pace


def test_nothing_is_repeated_in_peace():
    timing, pace = Machine().time(50)
    assert (pace.again, pace.disturbed) == (0, 0)
    assert timing.samples_ms.max() == timing.samples_ms.min()


def test_a_slow_spell_in_between_leaves_no_trace():
    quiet, _ = Machine().time(50)
    timing, pace = Machine((0.05, 1.0)).time(50)
    assert pace.again > 0
    assert pace.disturbed == 0
    assert abs(timing.samples_ms - quiet.min_ms).max() < 1e-6


def test_what_was_timed_before_the_first_full_speed_is_timed_again_at_the_end():
    timing, pace = Machine((0.0, 0.06)).time(50)
    assert pace.again > 0
    assert pace.disturbed == 0
    assert timing.samples_ms.max() - timing.samples_ms.min() < 1e-6


def test_patience_ends_and_says_so():
    machine = Machine((0.05, 1e9))
    timing, pace = machine.time(50, patience_s=0.5)
    assert 0 < pace.disturbed <= 50 // CALLS_PER_VISIT
    assert timing.samples_ms.max() > timing.samples_ms.min()
    assert machine.now < 5.0


def test_this_machine_has_a_speed():
    assert multiply_adds() > 0
