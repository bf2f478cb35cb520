"""Timing engines against each other; see `activsparse bench`."""
