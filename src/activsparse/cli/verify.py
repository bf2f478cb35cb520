"""`activsparse verify`: compare this engine with ONNX Runtime on random inputs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from activsparse.cli.console import plain_console
from activsparse.cli.engine_options import add_engine_options, session_options
from activsparse.cli.numbers import natural

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the options of `activsparse verify`."""
    parser = subparsers.add_parser(
        "verify",
        help="compare this engine with ONNX Runtime on random inputs",
        description="Run the model in this engine and in ONNX Runtime on the same random inputs: "
        "normal numbers, denormal and huge ones, and some with NaN or infinity among them. Exit "
        "status 1 where an output differs by more than rounding explains. The relative error is "
        "the largest error as a share of the largest magnitude in ONNX Runtime's output. Of "
        "quantised files exact arithmetic decides where the two differ.",
    )
    parser.add_argument("model", type=Path, metavar="ONNX", help="the model")
    parser.add_argument(
        "--plan",
        type=Path,
        metavar="FILE",
        help="run this plan of the model instead of compiling the model here",
    )
    parser.add_argument(
        "--seed", type=natural, default=0, metavar="N", help="of the random input (default: 0)"
    )
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Compare; 1 where the bound does not hold."""
    from rich.text import Text

    from activsparse import Session
    from activsparse.engine.plan_file import is_plan
    from activsparse.engine.verify import TRIALS, compare_with_onnxruntime
    from activsparse.errors import ActivsparseError

    if is_plan(args.model):
        raise ActivsparseError(
            f"{args.model}: ONNX Runtime cannot run a compiled plan; "
            "name the model it was compiled from: activsparse verify MODEL.onnx --plan PLAN"
        )
    options = session_options(args)
    if args.plan:
        options["input_shapes"] = None  # settled in the plan
    session = Session(args.plan or args.model, **options)
    rows = compare_with_onnxruntime(args.model, session, args.seed, TRIALS)
    console = plain_console()
    for row in rows:
        verdict = Text("holds", "green") if row.holds else Text("does not hold", "bold red")
        console.print(
            f"{row.figures}: ",
            verdict,
            f" ({session.isa}, {session.threads} thread(s), seed {args.seed})",
            sep="",
        )
    return 0 if all(row.holds for row in rows) else 1
