"""Now `activsparse.train.plan.target`."""

from activsparse.train.plan.target import (
    as_chosen,
    check_search,
    choose_per_layer,
    chooses_per_layer,
)

__all__ = ["as_chosen", "check_search", "choose_per_layer", "chooses_per_layer"]
