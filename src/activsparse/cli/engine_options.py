"""Options that the commands running this engine share."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

__all__ = [
    "add_choice_options",
    "add_engine_options",
    "add_input_size_option",
    "add_isa_option",
    "add_winograd_option",
    "choice_options",
    "image_size",
    "input_shapes",
    "positive",
    "session_options",
]


def positive(text: str) -> int:
    """Parse an integer of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def image_size(text: str) -> tuple[int, int]:
    """Parse HEIGHTxWIDTH."""
    match = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; write HEIGHTxWIDTH, such as 3x3")
    return int(match[1]), int(match[2])


def add_engine_options(parser: argparse.ArgumentParser) -> None:
    """Add --input-size, --isa, --threads, --fallback, --no-winograd and --no-tune."""
    add_input_size_option(parser)
    add_isa_option(parser)
    parser.add_argument(
        "--threads",
        type=positive,
        metavar="N",
        help="threads (default: 1, or what a plan was compiled for)",
    )
    parser.add_argument(
        "--fallback",
        choices=("onnxruntime",),
        help="let ONNX Runtime compute operators this engine does not know (default: an error)",
    )
    add_choice_options(parser)


def add_input_size_option(parser: argparse.ArgumentParser) -> None:
    """Add --input-size."""
    parser.add_argument(
        "--input-size",
        metavar="HxW",
        type=image_size,
        help="input height and width for a model that leaves them open",
    )


def input_shapes(args: argparse.Namespace, model: Path) -> dict[str, tuple[int, ...]] | None:
    """Return the `input_shapes` of `Session` that --input-size asks for."""
    if args.input_size is None:
        return None
    from activsparse.engine.input_size import shapes_at

    return shapes_at(model, args.input_size)


def add_isa_option(parser: argparse.ArgumentParser) -> None:
    """Add --isa."""
    parser.add_argument(
        "--isa",
        metavar="NAME",
        help="instruction set of this engine (default: ACTIVSPARSE_ISA, else the best one; "
        "`activsparse --version` lists those of this machine)",
    )


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
    fallback = {"fallback": args.fallback} if args.fallback else {}
    return {
        "threads": args.threads,
        "isa": args.isa,
        "input_shapes": input_shapes(args, args.model),
        **fallback,
        **choice_options(args),
    }


def choice_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments of `Session` that `add_choice_options` asked for."""
    return {"winograd": not args.no_winograd, "tune": False if args.no_tune else "auto"}
