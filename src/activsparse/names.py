"""Naming the nearest valid name in an error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["suggest"]


def suggest(word: str, valid: Iterable[str], limit: int = 8) -> str:
    """The end of an error about an unknown `word`: the nearest valid names, or a list of them."""
    names = list(dict.fromkeys(valid))
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    shown = ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
    return f"valid names: {shown}" if names else "there are none"
