"""Where the commands print: names of layers and files are shown as they are, never as markup."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from activsparse.errors import printable

__all__ = ["plain_console", "wide_console"]


class _Plain(Console):
    """A console on which `[/]` and `:snake:` are letters, and a control character is an escape."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Make a text of a string, a table's cells and titles among them."""
        return super().render_str(printable(text), **options)

    def print(self, *objects: Any, soft_wrap: bool | None = None, **options: Any) -> None:
        """Print; a line of text stays one line, so that whoever reads it finds its paths whole."""
        if soft_wrap is None:
            soft_wrap = all(isinstance(each, str | Text) for each in objects)
        super().print(*objects, soft_wrap=soft_wrap, **options)


def plain_console(**options: Any) -> Console:
    """Return a console for texts with names in them; what is styled is a `rich.text.Text`."""
    return _Plain(**{"markup": False, "emoji": False, "highlight": False, **options})


def wide_console(**options: Any) -> Console:
    """Return the standard output, piped at least 200 columns wide: programs need whole lines."""
    console = plain_console(**options)
    if not console.is_terminal:
        console.width = max(console.width, 200)
    return console
