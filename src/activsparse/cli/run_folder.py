"""The options of commands that read a run folder."""

from __future__ import annotations

import argparse

__all__ = ["add_checkpoint", "add_trust"]


def add_checkpoint(parser: argparse.ArgumentParser) -> None:
    """Add `--checkpoint`."""
    parser.add_argument(
        "--checkpoint",
        choices=("best", "last"),
        default="best",
        help="which state of the run: the best validation score with final masks, or the last "
        "epoch (default: best)",
    )


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add `--trust`."""
    parser.add_argument(
        "--trust",
        action="store_true",
        help="let run folders call what their config.yaml names: import paths as model.name, files "
        "in model.options (recipes may do so anyway; see docs/security.md)",
    )
