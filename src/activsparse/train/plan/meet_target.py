"""Meeting a target of measured time with estimates: solve, measure, correct, again.

Estimates are of convolutions, the target is of the whole network: what else takes time, and what
estimates get wrong, shows only when the network runs. Between two measured solutions time is taken
to be linear in the estimate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from typing import Generic, TypeVar

from activsparse.errors import ActivsparseError, Option

__all__ = ["SpeedSearch"]

S = TypeVar("S")

_NUDGE = 0.015
_NUDGES = 6
"""Where a budget leads to a solution that was measured before, look so far beside it, so often."""


@dataclass
class SpeedSearch(Generic[S]):
    """Solutions so fast as wanted.

    Attributes:
        solve: (estimated cost at most) -> the best solution, or None where none is so cheap.
        cost: estimated cost of a solution.
        measure: how many times as fast as dense a solution really is.
        dense_cost: estimated cost without masks.
        least_cost: of the cheapest solution.
        tolerance: how far a measured speed-up may be from the target, as a share of it.
        shortfall: how much slower than the target is no solution any more.
        rounds: so many solutions are measured per target at most.
        confirmations: how often what seems to meet a target is measured again, before it is
            believed; the median counts.
    """

    solve: Callable[[float], S | None]
    cost: Callable[[S], float]
    measure: Callable[[S], float]
    dense_cost: float
    least_cost: Callable[[], float]
    tolerance: float = 0.025
    shortfall: float = 0.05
    rounds: int = 6
    confirmations: int = 2
    measured: dict[S, tuple[float, float]] = field(default_factory=dict)
    """(estimated cost, measured time as a share of dense) of what was measured so far."""
    _speeds: dict[S, list[float]] = field(default_factory=dict)

    def meet(self, target: float) -> tuple[S, float]:
        """A solution and its measured speed-up, the nearest to the target that was found.

        Where times are noise, as on a busy machine, that may be off by more than the tolerance.

        Raises:
            ActivsparseError: the target is not above 1, or the cheapest solution is not so fast.
        """
        if not target > 1:
            raise ActivsparseError(
                f"target speed-up {target:g} must be above 1; choose for example 1.5"
            )
        best: tuple[S, float] | None = None
        for _ in range(self.rounds):
            solution = self._next(target)
            if solution is None or (best is not None and solution in self.measured):
                break
            speed = self.speed(solution)
            if abs(speed / target - 1) <= self.tolerance:
                speed = self._confirmed(solution)
            if best is None or abs(speed - target) < abs(best[1] - target):
                best = solution, speed
            if abs(speed / target - 1) <= self.tolerance:
                break
        if best is None:
            raise ActivsparseError("no masks are among the options; allow more layers or patterns")
        if best[1] < target * (1 - self.shortfall):
            self.refuse_unreachable(target)
            best = self._slowest_enough(target)
        return best

    def refuse_unreachable(self, target: float) -> None:
        """Measure the cheapest solution, again where it seems too slow.

        Raises:
            ActivsparseError: it is slower than the target by more than the shortfall.
        """
        cheapest = self.solve(self.least_cost())
        fastest = 1.0 if cheapest is None else self.speed(cheapest)
        if cheapest is not None and fastest < target * (1 - self.shortfall):
            fastest = self._confirmed(cheapest)
        if fastest < target * (1 - self.shortfall):
            raise ActivsparseError(
                Option("target_speedup", target),
                f": the fastest masks here reach {fastest:.2f}; lower it, or give larger images, "
                "of which masks save more, or allow more patterns or layers",
            )

    def _next(self, target: float) -> S | None:
        """The solution for the corrected budget, or one beside it if that was measured before."""
        least = self.least_cost()
        budget = max(self._budget(1 / target), least)
        solution = self.solve(budget)
        for _ in range(_NUDGES):
            if solution is None or solution not in self.measured or self._met(solution, target):
                break
            budget *= 1 - _NUDGE if self.speed(solution) < target else 1 + _NUDGE
            if budget < least:
                break
            solution = self.solve(budget)
        return solution

    def _met(self, solution: S, target: float) -> bool:
        return abs(self.speed(solution) / target - 1) <= self.tolerance

    def _slowest_enough(self, target: float) -> tuple[S, float]:
        """Where solutions are few: the slowest measured one that is fast enough."""
        speeds = {solution: self.speed(solution) for solution in self.measured}
        enough = {s: v for s, v in speeds.items() if v >= target * (1 - self.shortfall)}
        solution = min(enough, key=lambda s: enough[s])
        return solution, enough[solution]

    def speed(self, solution: S) -> float:
        """How many times as fast as dense a solution is, measured at least once."""
        if solution not in self.measured:
            self._measure(solution)
        return 1 / self.measured[solution][1]

    def _confirmed(self, solution: S) -> float:
        while len(self._speeds[solution]) <= self.confirmations:
            self._measure(solution)
        return self.speed(solution)

    def _measure(self, solution: S) -> None:
        speeds = self._speeds.setdefault(solution, [])
        speeds.append(self.measure(solution))
        self.measured[solution] = self.cost(solution), 1 / median(speeds)

    def _budget(self, share: float) -> float:
        """The estimated cost of what takes this share of the dense time."""
        points = sorted({(self.dense_cost, 1.0), *self.measured.values()})
        slower = [point for point in points if point[1] >= share]
        faster = [point for point in points if point[1] < share]
        high = min(slower, key=lambda point: point[1], default=(self.dense_cost, 1.0))
        if faster:
            low = max(faster, key=lambda point: point[1])
        elif high[1] < 1:  # on along the line from dense
            low, high = high, (self.dense_cost, 1.0)
        else:  # as if convolutions were everything
            low = (0.0, 0.0)
        if high[1] == low[1]:
            return low[0]
        return low[0] + (share - low[1]) / (high[1] - low[1]) * (high[0] - low[0])
