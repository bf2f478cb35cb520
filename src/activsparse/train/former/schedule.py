"""Now `activsparse.train.sparsify.schedule`."""

from activsparse.train.sparsify.schedule import SCHEDULES, Schedule, make_schedule

__all__ = ["SCHEDULES", "Schedule", "make_schedule"]
