"""`activsparse sensitivity`: what each layer of a trained network loses by skipping."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from activsparse.train.sensitivity import Sensitivity

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "sensitivity",
        help="measure what each layer loses at several sparsities",
        description="Mask each layer of a run's network by itself, at several sparsities, and "
        "measure the loss on held-out images; masks of the run are taken out before. Fails if a "
        "layer's mask changes nothing. With --target-speedup, also choose the layers' sparsities "
        "that reach it at the least loss, by the table of measured times; with --spread, those "
        "that skip as many multiply-adds as this sparsity in every layer.",
    )
    parser.add_argument("run_dir", metavar="RUN", help="folder written by activsparse train")
    parser.add_argument(
        "--sparsities", type=float, nargs="+", action="extend", default=[], metavar="S"
    )
    parser.add_argument("--pattern", default="auto", help="of the masks (default auto)")
    parser.add_argument("--fill", default="zero", help="zero, nearest or auto")
    parser.add_argument(
        "--skip", metavar="GLOB", nargs="+", action="extend", default=[], help="layers left out"
    )
    parser.add_argument(
        "--images", type=int, default=1024, metavar="N", help="held-out images (default 1024)"
    )
    target = parser.add_mutually_exclusive_group()
    target.add_argument("--target-speedup", type=float, metavar="X", help="for example 1.5")
    target.add_argument("--spread", type=float, metavar="S", help="for example 0.5")
    parser.add_argument("--out", metavar="FILE.csv", help="write the figures")
    parser.add_argument("--plot", metavar="FILE.png", help="draw them (png, svg or pdf)")
    parser.add_argument("--checkpoint", choices=("best", "last"), default="best")


def run(args: argparse.Namespace) -> int:
    """Run the sub-command."""
    from rich.console import Console
    from rich.progress import Progress

    from activsparse.errors import ActivsparseError
    from activsparse.train.layers import find_layers
    from activsparse.train.run import held_out_batches, load_run
    from activsparse.train.sensitivity import SPARSITIES, measure_sensitivity, write_sensitivity
    from activsparse.train.speedup import sparsities_for_speedup
    from activsparse.train.spread import SPREAD_SPARSITIES, spread_sparsity
    from activsparse.train.task import held_out_loss

    if args.images < 1:
        raise ActivsparseError(f"--images {args.images} must be at least 1")
    trained = load_run(args.run_dir, args.checkpoint)
    if trained.sparsifier is not None:
        trained.sparsifier.detach()
    batches = held_out_batches(trained.config, args.images)
    with Progress(transient=True) as progress:
        task = progress.add_task("layers")
        found = measure_sensitivity(
            trained.model,
            trained.example_input,
            batches,
            held_out_loss(trained.model, trained.example_input),
            args.sparsities or (SPARSITIES if args.spread is None else SPREAD_SPARSITIES),
            pattern=args.pattern,
            fill=args.fill,
            skip=args.skip,
            advance=lambda done, total: progress.update(task, completed=done, total=total),
        )
    console = Console(highlight=False)
    _show(console, found)
    layers = find_layers(trained.model, trained.example_input)
    if args.target_speedup is not None:
        chosen = sparsities_for_speedup(layers, found, args.target_speedup, args.pattern)
        console.print(f"estimated {args.target_speedup:g} times as fast, ", end="")
        _show_section(console, chosen, args)
    elif args.spread is not None:
        chosen = spread_sparsity(layers, found, args.spread)
        console.print(f"{args.spread:g} of the layers' multiply-adds skipped, ", end="")
        _show_section(console, chosen, args)
    if args.out:
        write_sensitivity(found, Path(args.out))
    if args.plot:
        from activsparse.report.sensitivity import draw_sensitivity

        draw_sensitivity(found, Path(args.plot))
    return 0


def _show_section(console: Console, chosen: dict[str, float], args: argparse.Namespace) -> None:
    console.print("as a recipe's sparsity section:")
    lines = [
        "  sparsity: 0.0",
        f"  pattern: {args.pattern}",
        f"  fill: {args.fill}",
        "  per_layer:",
    ]
    lines += [f"    {name}: {value:g}" for name, value in chosen.items()]
    console.print("\n".join(lines), markup=False)


def _show(console: Console, found: Sequence[Sensitivity]) -> None:
    from rich.table import Table

    table = Table("layer", "requested", "achieved", "loss", "increase", "top-1")
    for row in found:
        table.add_row(
            row.layer,
            f"{row.requested:.2f}",
            f"{row.achieved:.3f}",
            f"{row.loss:.4f}",
            f"{row.loss_increase:+.4f}",
            "" if row.top1 is None else f"{100 * row.top1:.2f} %",
        )
    console.print(table)
