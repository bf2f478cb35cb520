"""Now `activsparse.train.sparsify.candidates`."""

from activsparse.train.sparsify.candidates import Choice, halve, rounds, search_masks

__all__ = ["Choice", "choose_masks", "halve", "rounds", "search_masks"]

choose_masks = search_masks
