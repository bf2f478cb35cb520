"""Now `activsparse.names`."""

from activsparse.names import suggest

__all__ = ["suggest"]
