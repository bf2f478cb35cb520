"""Now `activsparse.train.sparsify.importance`."""

from activsparse.train.sparsify.importance import IMPORTANCES, measure_importance

__all__ = ["IMPORTANCES", "measure_importance"]
