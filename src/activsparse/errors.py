"""The one exception type users see, and the rule for its text."""

from __future__ import annotations

__all__ = ["ActivsparseError"]


class ActivsparseError(Exception):
    """Bad input or an unmet requirement.

    The message is one line that names the file, node or layer, the cause, and the remedy. The
    command line prints it without a traceback and exits with status 2.
    """
