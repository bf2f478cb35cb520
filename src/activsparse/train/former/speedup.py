"""Now `activsparse.train.plan.speedup`."""

from activsparse.train.plan.speedup import estimated_speedup, sparsities_for_speedup

__all__ = ["estimated_speedup", "sparsities_for_speedup"]
