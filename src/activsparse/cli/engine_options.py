"""Options that the commands running this engine share."""

from __future__ import annotations

import argparse
from typing import Any

__all__ = [
    "add_choice_options",
    "add_engine_options",
    "add_winograd_option",
    "choice_options",
    "positive",
    "session_options",
]


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a positive number")
    return value


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add --isa, --threads, --no-winograd and --no-tune."""
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
    add_choice_options(parser)


def add_choice_options(parser: argparse.ArgumentParser) -> None:
    """Add --no-winograd and --no-tune."""
    add_winograd_option(parser)
    parser.add_argument(
        "--no-tune",
        action="store_true",
        help="choose algorithms by estimates, not by measurements on this machine: the same "
        "choice every time",
    )


def add_winograd_option(parser: argparse.ArgumentParser) -> None:
    """Add --no-winograd."""
    parser.add_argument(
        "--no-winograd",
        action="store_true",
        help="do without Winograd convolutions, which are faster but round more",
    )


def session_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `Session` that `add_engine_options` asked for."""
    return {"threads": args.threads, "isa": args.isa, **choice_options(args)}


def choice_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `Session` that `add_choice_options` asked for."""
    return {"winograd": not args.no_winograd, "tune": False if args.no_tune else "auto"}
