"""Layers in chains: each reads what the one before it left zero."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["chains"]


def chains(inputs: Sequence[int | None]) -> list[list[int]]:
    """Cut layers into chains in which each reads what the one before it left.

    Where several layers read one, the first of them follows it, and the others are on their own.

    Args:
        inputs: for each layer the number of the earlier one whose mask leaves zeros in its input,
            or None.
    """
    chain_of: dict[int, list[int]] = {}
    found: list[list[int]] = []
    for i, source in enumerate(inputs):
        chain = chain_of.get(source) if source is not None else None
        if chain is None or chain[-1] != source:
            chain = []
            found.append(chain)
        chain.append(i)
        chain_of[i] = chain
    return found
