"""Now `activsparse.train.sparsify.candidates`."""

from activsparse.train.sparsify.candidates import Choice, choose_masks, halve, rounds

__all__ = ["Choice", "choose_masks", "halve", "rounds"]
