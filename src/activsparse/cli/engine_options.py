"""Options that the commands running this engine share."""

from __future__ import annotations

import argparse

__all__ = ["add_engine_options", "positive"]


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add --isa and --threads."""
    parser.add_argument(
        "--isa",
        metavar="NAME",
        help="instruction set (default: ACTIVSPARSE_ISA, else the best one; "
        "`activsparse --version` lists those of this machine)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads (default: 1, or what a plan was compiled for)",
    )
