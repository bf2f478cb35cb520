"""`activsparse compile`: compile an ONNX model into a plan."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from activsparse.cli.console import plain_console
from activsparse.cli.engine_options import (
    add_choice_options,
    add_fallback_option,
    add_input_options,
    add_threads_option,
    choice_options,
    input_shapes,
)

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the options of `activsparse compile`."""
    parser = subparsers.add_parser(
        "compile",
        help="compile an ONNX model into a plan, one file that loads fast and without onnx",
        description="Choose algorithms, pack weights, lay out memory, and write the result to one "
        "file. A session maps it into memory: it needs numpy only and takes a fraction of a second "
        "to load. C programs load it without Python.",
    )
    parser.add_argument("model", type=Path, metavar="ONNX", help="the model")
    parser.add_argument("--out", type=Path, required=True, metavar="PLAN", help="file to write")
    parser.add_argument(
        "--target",
        default="native",
        metavar="NAME",
        help="machine it shall run on: native, x86-64, x86-64-v3 (AVX2), x86-64-v4 (AVX-512) or "
        "aarch64 (default: native, the best instruction set of this machine). Algorithms are "
        "measured where this machine can run them, and chosen by estimates for other targets",
    )
    add_input_options(parser)
    engine = parser.add_argument_group("engine")
    add_threads_option(engine, 1, "of a session of the plan unless told otherwise; default: 1")
    add_fallback_option(engine, "refused where one is needed: a plan holds none")
    add_choice_options(engine)


def run(args: argparse.Namespace) -> int:
    """Compile the model and write the plan."""
    from activsparse.engine.compile import compile_file
    from activsparse.overwrite import refuse_overwrite

    refuse_overwrite([args.model], [args.out])
    plan = compile_file(
        args.model,
        args.out,
        target=args.target,
        threads=args.threads,
        input_shapes=input_shapes(args, args.model),
        fallback=args.fallback,
        **choice_options(args),
    )
    size = args.out.stat().st_size / 2**20
    plain_console().print(
        f"Wrote {args.out}: {len(plan.steps)} operators for {plan.isa}, {size:.1f} MiB"
    )
    return 0
