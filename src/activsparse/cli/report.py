"""`activsparse report`: one page that shows what runs gained and lost."""

from __future__ import annotations

import argparse
from pathlib import Path

from activsparse.cli.console import plain_console
from activsparse.cli.engine_options import add_peers_option, add_threads_option
from activsparse.cli.numbers import positive, repeats
from activsparse.cli.run_folder import add_trust

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "report",
        help="show runs on one page: accuracy against measured time, layers, masks, predictions",
        description="Export the networks of runs, time them together, ask them all about the same "
        "held-out images, and write one interactive HTML file that needs no network: accuracy "
        "against measured time, every layer's time and mask, plans, confusion, and the images on "
        "which they differ. Where no dense run is named, the one they started from comes along.",
    )
    parser.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        type=Path,
        help="folder written by activsparse train or sparsify",
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("report.html"),
        metavar="FILE",
        help="the page (default: %(default)s)",
    )
    parser.add_argument(
        "--images", type=positive, metavar="N", help="held-out images (default: all)"
    )
    parser.add_argument(
        "--sensitivity",
        type=Path,
        metavar="FILE.csv",
        help="show what activsparse sensitivity --out wrote, too",
    )
    parser.add_argument(
        "--repeat",
        type=repeats,
        default=50,
        metavar="R",
        help="timed runs per network and engine (default: 50)",
    )
    add_peers_option(parser)
    add_threads_option(parser, 1, "of every engine; default: 1")
    add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Measure, and write the page."""
    from activsparse.bench.compare import OWN_ENGINE
    from activsparse.files import atomic_path
    from activsparse.overwrite import refuse_overwrite
    from activsparse.pipeline.runs import read_losses, report_of_runs
    from activsparse.pipeline.timing import engines_at_hand
    from activsparse.report import render

    read = [] if args.sensitivity is None else [args.sensitivity]
    refuse_overwrite([*args.runs, *read], [args.out])
    losses = [loss for path in read for loss in read_losses(path)]
    bars = plain_console(stderr=True)
    # The output is opened first: better to fail now than after the work.
    with atomic_path(args.out) as path:
        report = report_of_runs(
            args.runs,
            engines_at_hand() if args.engines is None else (OWN_ENGINE, *args.engines),
            threads=args.threads,
            repeat=args.repeat,
            images=args.images,
            losses=losses,
            trust=args.trust,
            console=bars if bars.is_terminal else None,
        )
        path.write_text(render(report), encoding="utf-8")
    console = plain_console()
    console.print(report.summary)
    console.print(f"{args.out} shows it")
    return 0
