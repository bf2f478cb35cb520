"""`activsparse compile`: compile an ONNX model into a plan."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from activsparse.cli.engine_options import add_choice_options, choice_options, positive

__all__ = ["TARGETS", "add_parser", "run"]

TARGETS = {"x86-64": "scalar", "x86-64-v3": "avx2", "x86-64-v4": "avx512", "aarch64": "neon"}
"""Names of the machines a plan can be for, and the instruction set it then uses."""


def add_parser(subparsers: Any) -> None:
    """Add the options of `activsparse compile`."""
    parser = subparsers.add_parser(
        "compile",
        help="compile an ONNX model into a plan, one file that loads fast and without onnx",
        description="Choose algorithms, pack weights, lay out memory, and write the result to one "
        "file. A session maps it into memory: it needs numpy only and takes a fraction of a second "
        "to load.",
    )
    parser.add_argument("model", type=Path, metavar="ONNX", help="the model")
    parser.add_argument("--out", type=Path, required=True, metavar="PLAN", help="file to write")
    parser.add_argument(
        "--isa",
        metavar="NAME",
        help=f"what it shall run on: native, {', '.join(TARGETS)}, or an instruction set "
        "(default: native, the best of this machine)",
    )
    parser.add_argument(
        "--threads",
        type=positive,
        default=1,
        metavar="N",
        help="threads a session of the plan uses unless told otherwise (default: 1)",
    )
    add_choice_options(parser)


def run(args: argparse.Namespace) -> int:
    """Compile the model and write the plan."""
    from activsparse import Session

    isa = _instruction_set(args.isa)
    Session(args.model, threads=args.threads, isa=isa, **choice_options(args)).save(args.out)
    return 0


def _instruction_set(name: str | None) -> str | None:
    """The engine's name of a target; None leaves the choice to the session."""
    from activsparse import _native
    from activsparse.errors import ActivsparseError

    if name is None or name == "native":
        return None
    isa = TARGETS.get(name, name)
    if isa in TARGETS.values() and isa not in _native.available_isas():
        raise ActivsparseError(
            f"--isa {name}: weights can only be packed for instruction sets this machine has "
            f"({', '.join(_native.available_isas())}); compile on a machine with '{isa}'"
        )
    return isa
