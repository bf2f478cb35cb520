"""Now `activsparse.train.plan.spread`."""

from activsparse.train.plan.spread import SPREAD_SPARSITIES, spread_sparsity

__all__ = ["SPREAD_SPARSITIES", "spread_sparsity"]
