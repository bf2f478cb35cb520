"""Now `activsparse.train.plan.knapsack`."""

from activsparse.train.plan.knapsack import cheapest

__all__ = ["cheapest"]
