"""Now `activsparse.train.plan.target`."""

from activsparse.train.plan.target import (
    as_chosen,
    check_search,
    choose_plan,
    chooses_plan,
)

__all__ = ["as_chosen", "check_search", "choose_plan", "chooses_plan"]
