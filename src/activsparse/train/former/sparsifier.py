"""Now `activsparse.train.sparsify.sparsifier`."""

from activsparse.train.sparsify.sparsifier import LayerReport, Sparsifier

__all__ = ["LayerReport", "Sparsifier"]
