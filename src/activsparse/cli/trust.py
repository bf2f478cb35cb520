"""The option that lets a run folder call code of its own."""

from __future__ import annotations

import argparse

__all__ = ["add_trust"]


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add `--trust`."""
    parser.add_argument(
        "--trust",
        action="store_true",
        help="let run folders call what their config.yaml names: import paths as model.name, files "
        "in model.options (recipes may do so anyway; see docs/security.md)",
    )
