"""`activsparse calibrate`: measure what convolutions cost on this machine."""

from __future__ import annotations

import argparse

from activsparse.cli.console import plain_console
from activsparse.cli.engine_options import add_isa_option, add_threads_option
from activsparse.cli.numbers import number

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "calibrate",
        help="measure what convolutions cost on this machine, for activsparse plan",
        description="Time the engine's algorithms on layers of known networks, dense and under "
        "masks, and keep the times in the folder of measured choices (ACTIVSPARSE_CACHE). "
        "`activsparse plan` reckons with them; pattern auto goes by the same shipped times on "
        "every machine. Refused while other programs are at work.",
    )
    add_isa_option(parser)
    add_threads_option(parser, 1, "default: 1")
    parser.add_argument(
        "--seconds",
        type=number(0, 1e5, "number of seconds above 0"),
        default=150.0,
        metavar="S",
        help="how long to measure (default: 150)",
    )
    parser.add_argument("--force", action="store_true", help="measure on a busy machine too")


def run(args: argparse.Namespace) -> int:
    """Measure, and say where the times are."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from activsparse.engine.calibrate import calibrate
    from activsparse.engine.compile import NATIVE, target_isa

    isa = args.isa or target_isa(NATIVE)
    console = plain_console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"timing layers, {isa}", total=1.0)
        path = calibrate(
            isa,
            args.threads,
            seconds=args.seconds,
            force=args.force,
            advance=lambda share: progress.update(task, completed=share),
        )
    plain_console().print(f"times of this machine ({isa}, {args.threads} threads): {path}")
    return 0
