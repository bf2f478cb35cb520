"""How sparsity follows the training step: pure functions, no state."""

from __future__ import annotations

from dataclasses import dataclass

from activsparse.errors import ActivsparseError
from activsparse.values import check_count, check_number

__all__ = ["SCHEDULES", "Schedule", "make_schedule"]

SCHEDULES = ("polynomial", "constant")


@dataclass(frozen=True)
class Schedule:
    """Sparsity as a function of the step.

    Steps before `begin` are dense. From `begin` on, steps that are a multiple of `frequency` draw
    new masks (*pruning steps*) and the steps between them train dense. At `end` the masks are
    frozen at the final sparsity.
    """

    begin: int = 0
    end: int = 0
    frequency: int = 1
    initial: float = 0.0
    kind: str = "polynomial"

    def is_pruning_step(self, step: int) -> bool:
        """Whether new masks are drawn for `step`; they compete for the final ones."""
        return self.begin <= step < self.end and step % self.frequency == 0

    def is_dense_step(self, step: int) -> bool:
        """Whether `step` trains without masks."""
        return step < self.end and not self.is_pruning_step(step)

    def is_over(self, step: int) -> bool:
        """Whether masks are frozen by the time of `step`."""
        return step >= self.end

    def sparsity(self, step: int, final: float) -> float:
        """Sparsity at `step` of a layer that ends at `final`.

        With p the share of the way from begin to end: `final + (initial - final) (1 - p)^2` (kind
        `polynomial`), or `final` at once (kind `constant`). Zero before begin.
        """
        if step >= self.end:
            return final
        if step < self.begin:
            return 0.0
        if self.kind == "constant":
            return final
        progress = (step - self.begin) / (self.end - self.begin)
        initial = min(self.initial, final)
        return final + (initial - final) * (1.0 - progress) ** 2


def make_schedule(
    total_steps: int | None,
    *,
    begin: float = 0.1,
    end: float = 0.9,
    frequency: int = 1,
    initial: float = 0.0,
    kind: str = "polynomial",
) -> Schedule:
    """A schedule from fractions of `total_steps`; without `total_steps`, one over at step 0.

    Raises:
        ActivsparseError: an argument out of range.
    """
    if kind not in SCHEDULES:
        raise ActivsparseError(f"schedule {kind!r} is unknown; choose from {', '.join(SCHEDULES)}")
    for name, value in (("begin", begin), ("end", end)):
        check_number(name, value, 0.5)
    if not 0.0 <= begin <= end <= 1.0:
        raise ActivsparseError(
            f"begin {begin} and end {end} are fractions of all steps and need "
            "0 <= begin <= end <= 1"
        )
    check_count("frequency", frequency)
    check_number("initial_sparsity", initial, 0.1)
    if not 0.0 <= initial < 1.0:
        raise ActivsparseError(f"initial sparsity {initial} must be at least 0 and below 1")
    if total_steps is None:
        return Schedule(0, 0, frequency, initial, kind)
    check_count("total_steps", total_steps)
    return Schedule(round(begin * total_steps), round(end * total_steps), frequency, initial, kind)
