"""How fast the processor is just now, so that what others' load slowed down is timed again.

A core that is shared with strangers, as one of two hardware threads or under a common limit of
power, computes at two thirds of its speed for seconds. Not all contenders lose as much by it: what
keeps the arithmetic units busy loses most. Medians bear that only while it is rare.
"""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["FULL", "Pace", "multiply_adds"]

FULL = 0.92
"""Share of the best speed seen from which on the processor counts as undisturbed."""
_WAIT_S = 0.05


def multiply_adds() -> float:
    """The speed of multiply-adds on registers alone, GFLOP/s; takes about a millisecond."""
    from activsparse import _native

    return float(_native.fma_peak(_native.available_isas()[-1]))


class Pace:
    """The processor's speed against the best that was seen, and how long to wait for it.

    Args:
        speed: measures it, in any unit.
        patience_s: seconds for waiting and timing again, on top of as long as timing itself takes.
        clock: seconds.
        sleep: waits so many of them.

    Attributes:
        again: visits that were timed again.
        disturbed: visits that were kept although the processor was slower than at its best.
    """

    def __init__(
        self,
        speed: Callable[[], float] = multiply_adds,
        patience_s: float = 10.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._speed, self._clock, self._sleep = speed, clock, sleep
        self._patience_s, self._began, self._timing_s = patience_s, clock(), 0.0
        self._last = self._best = speed()
        self.again = self.disturbed = 0

    def _now(self) -> float:
        self._last = self._speed()
        self._best = max(self._best, self._last)
        return self._last

    def is_full(self, speed: float) -> bool:
        """Whether a speed is about the best there was."""
        return speed >= FULL * self._best

    def watch(self, visit: Callable[[], list[int]]) -> tuple[list[int], float]:
        """Run a visit; its times, and the lower of the speeds before and after it."""
        before, began = self._last, self._clock()
        times = visit()
        self._timing_s += self._clock() - began
        return times, min(before, self._now())

    def repeat(self, visit: Callable[[], list[int]]) -> tuple[list[int], float] | None:
        """Run a disturbed visit again until it is not; None where patience ends before that."""
        while self._has_patience():
            if not self.is_full(self._now()):
                self._sleep(_WAIT_S)
                continue
            times = visit()
            self.again += 1
            if self.is_full(self._now()):
                return times, self._last
        return None

    def _has_patience(self) -> bool:
        beside = self._clock() - self._began - self._timing_s
        return beside < self._patience_s + self._timing_s
