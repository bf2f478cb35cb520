"""The one exception type users see, and the rule for its text."""

from __future__ import annotations

import re

__all__ = ["ActivsparseError", "printable"]

# What moves a terminal's cursor or cannot be encoded: control characters and lone surrogates.
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_LINE_BREAKS = re.compile(r"\s*[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")

# Names in a file may be as long as the file; of a longer message both ends are shown.
_LONGEST = 2000


class ActivsparseError(Exception):
    """Bad input or an unmet requirement.

    The message is one line that names the file, node or layer, the cause, and the remedy. The
    command line prints it without a traceback and exits with status 2.
    """

    def __init__(self, message: object = "") -> None:
        """Keep the message as one line, whatever the names in it hold."""
        line = printable(_LINE_BREAKS.sub(" ", str(message).strip()))
        if len(line) > _LONGEST:
            line = f"{line[: _LONGEST // 2]} [...] {line[-_LONGEST // 2 :]}"
        super().__init__(line)


def printable(text: str) -> str:
    r"""Return a text with its control characters as escapes, such as \x1b; line breaks stay."""
    return _UNPRINTABLE.sub(lambda found: repr(found[0])[1:-1], text)
