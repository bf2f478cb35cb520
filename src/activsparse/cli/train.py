"""`activsparse train`: carry out a recipe."""

from __future__ import annotations

import argparse
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from activsparse.cli.console import plain_console
from activsparse.cli.numbers import number
from activsparse.cli.run_folder import add_trust

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["add_parser", "run"]

_log = logging.getLogger(__name__)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "train",
        help="train a sparse network from a recipe",
        description="Train a network as a recipe says. The run folder then holds config.yaml, "
        "metrics.csv, checkpoints and summary.json; `activsparse export` reads it.",
    )
    parser.add_argument(
        "--recipe", metavar="NAME|FILE.yaml", help="a recipe of the package, or a file"
    )
    parser.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="change a key of the recipe, for example training.epochs=3 sparsity.pattern=lattice",
    )
    parser.add_argument(
        "--target-speedup",
        type=number(1, 1e6, "speed-up above 1"),
        metavar="X",
        help="choose the layers' masks so that convolutions become an estimated X times as "
        "fast at the least loss (short for --set search.target_speedup=X)",
    )
    parser.add_argument(
        "--plan",
        metavar="FILE.yaml",
        help="train with the masks of a mask plan (activsparse plan), at its input size",
    )
    parser.add_argument("--out", metavar="DIR", help="run folder, by default runs/RECIPE")
    parser.add_argument(
        "--resume",
        metavar="DIR",
        help="continue a stopped run; with --recipe, only if it is one of that recipe",
    )
    parser.add_argument(
        "--print-config", action="store_true", help="print the resolved recipe and stop"
    )
    parser.add_argument(
        "--no-check-export",
        dest="check_export",
        action="store_false",
        help="do not see first, which takes some seconds, that the network can be exported",
    )
    add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Run the sub-command."""
    from activsparse.errors import ActivsparseError
    from activsparse.train.recipes.read import dump_config, load_config, recipe_names

    if args.target_speedup is not None:
        args.set = [*args.set, f"search.target_speedup={args.target_speedup}"]
    if args.plan is not None:
        from activsparse.masks.mask_plan_file import read_mask_plan

        height, width = read_mask_plan(args.plan).input_size
        section = f"sparsity.plan={json.dumps(args.plan)}"
        args.set = [*args.set, section, f"data.image_size=[{height}, {width}]"]
    if args.resume and (args.out or args.print_config or (args.set and not args.recipe)):
        raise ActivsparseError(
            "--resume continues a run as it was started; leave out --set, --target-speedup, "
            "--plan, --out and --print-config"
        )
    if not args.resume and not args.recipe:
        raise ActivsparseError(
            f"name a --recipe ({', '.join(recipe_names())}) or a run to --resume"
        )
    config = load_config(args.recipe, args.set) if args.recipe else None
    if config is not None and args.print_config:
        print(dump_config(config), end="")
        return 0

    from activsparse.distributed import rank
    from activsparse.train.run.interrupt import Interrupted
    from activsparse.train.trainer import resume, train

    console = plain_console()
    first = rank() == 0
    progress = console if console.is_terminal and first else None
    folder = Path(args.resume or args.out or Path("runs") / Path(args.recipe).stem)
    try:
        if args.resume or config is None:
            summary = resume(folder, config, console=progress, trust=args.trust)
        else:
            summary = train(
                config,
                folder,
                console=progress,
                trust=args.trust,
                check_export=args.check_export,
            )
    except (Interrupted, KeyboardInterrupt):
        if first and (folder / "config.yaml").is_file():
            _log.info("stopped; continue with: activsparse train --resume %s", folder)
        return 130
    if first:
        _print_summary(console, folder, summary)
    return 0


def _print_summary(console: Console, folder: Path, summary: dict[str, object]) -> None:
    from rich.table import Table

    from activsparse.masks.mean import SAVED_IS, SPARSITY_IS

    figure = "top1" if "top1" in summary else "map50"
    columns = ("", figure, "epochs", "sparsity", "saved", "time")
    table = Table(*columns, title=f"{summary['recipe']}")
    dense, epochs = summary["dense"], 0
    name = "sparse" if summary["layers"] else "dense"
    as_long = summary.get("dense_as_long")
    for label, row in (("dense, its start", dense), (name, summary)):
        if isinstance(row, dict):
            epochs += row["epochs"]
            table.add_row(
                label,
                f"{100 * row[figure]:.2f} %",
                f"{epochs}",
                f"{100 * row['achieved']:.1f} %",
                f"{100 * (1 - row['kept_macs']):.1f} %",
                f"{row['seconds']:.0f} s",
            )
    console.print(table)
    console.print(f"sparsity: {SPARSITY_IS}; saved: {SAVED_IS}")
    if isinstance(as_long, dict) and isinstance(lost := summary[figure], float):
        lost = 100 * (as_long[figure] - lost)
        console.print(
            f"masks cost {lost:.2f} points of {figure}: the dense network of {as_long['run']}, "
            f"trained for {as_long['epochs']} epochs in all, has {100 * as_long[figure]:.2f} %"
        )
    elif summary["layers"]:
        console.print(
            "What masks cost is not known: it is the difference from a dense network trained as "
            "long, and none is here. The same recipe with --set sparsity=null into a folder beside "
            "this one trains it"
        )
    console.print(f"run folder: {folder}")
