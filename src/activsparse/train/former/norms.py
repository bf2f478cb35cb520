"""Now `activsparse.train.sparsify.norms`."""

from activsparse.train.sparsify.norms import batch_statistics, recalibrate_norms

__all__ = ["batch_statistics", "recalibrate_norms"]
