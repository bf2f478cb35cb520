"""Now `activsparse.train.sparsify.fill`."""

from activsparse.train.sparsify.fill import fill_nearest, fill_zero

__all__ = ["fill_nearest", "fill_zero"]
