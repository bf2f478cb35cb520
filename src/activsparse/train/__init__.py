"""The training half: masks that follow a schedule while a network is trained. Depends on torch."""

from activsparse.train.sparsifier import LayerReport, Sparsifier

__all__ = ["LayerReport", "Sparsifier"]
