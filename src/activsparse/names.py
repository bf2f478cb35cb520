"""Naming the nearest valid name in an error."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["suggest"]


def suggest(word: str, valid: Iterable[str], limit: int = 8, prefix: str = "") -> str:
    """The end of an error about an unknown `word`: the nearest valid names, or a list of them.

    Args:
        word: what was given, without `prefix`.
        valid: names, without `prefix`.
        limit: how many are listed where none is near.
        prefix: what users write before each name.
    """
    names = list(dict.fromkeys(valid))
    close = difflib.get_close_matches(word, names, n=3, cutoff=0.5)
    shown = [prefix + name for name in close or names[:limit]]
    if close:
        return f"did you mean {' or '.join(shown)}?"
    more = ", ..." if len(names) > limit else ""
    return f"valid names: {', '.join(shown)}{more}" if names else "there are none"
