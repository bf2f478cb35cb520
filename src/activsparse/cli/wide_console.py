"""Where the commands print wide tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["wide_console"]


def wide_console(highlight: bool = True) -> Console:
    """Return the standard output, piped at least 200 columns wide: programs need whole lines."""
    from rich.console import Console

    console = Console(highlight=highlight)
    if not console.is_terminal:
        console.width = max(console.width, 200)
    return console
