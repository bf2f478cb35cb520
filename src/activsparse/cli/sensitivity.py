"""`activsparse sensitivity`: what each layer of a trained network loses by skipping."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from activsparse.cli.console import plain_console
from activsparse.cli.mask_options import add_mask_options, mask_options
from activsparse.cli.numbers import number, positive
from activsparse.cli.run_folder import add_checkpoint, add_trust

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor

    from activsparse.train.plan.sensitivity import Sensitivity
    from activsparse.train.run.folder import Run

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    from activsparse.masks.options import UNTRAINED

    parser = subparsers.add_parser(
        "sensitivity",
        help="measure what each layer loses at several sparsities",
        description="Mask each layer of a run's network by itself, at several sparsities, and "
        "measure the loss on held-out images; masks of the run are taken out before. Fails if a "
        "layer's mask changes nothing. `activsparse plan` chooses masks by such measurements.",
    )
    parser.add_argument("run_dir", metavar="RUN", help="folder written by activsparse train")
    parser.add_argument(
        "--sparsities",
        type=number(0, 1, "sparsity in [0, 1)"),
        nargs="+",
        action="extend",
        default=[],
        metavar="S",
        help="shares of positions to skip (default: 0.2 0.35 0.5 0.65)",
    )
    add_mask_options(parser, UNTRAINED, which=("pattern", "fill", "site", "skip"))
    parser.add_argument(
        "--images", type=positive, default=1024, metavar="N", help="held-out images (default: 1024)"
    )
    parser.add_argument("--out", metavar="FILE.csv", help="write the figures")
    parser.add_argument("--plot", metavar="FILE.png", help="draw them (png, svg or pdf)")
    add_checkpoint(parser)
    add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Run the sub-command."""
    from activsparse.files import atomic_path, writing
    from activsparse.overwrite import refuse_overwrite
    from activsparse.train.plan.sensitivity import write_sensitivity
    from activsparse.train.run.folder import held_out_batches, load_run

    refuse_overwrite([args.run_dir], [args.out, args.plot])
    kind = ""
    if args.plot:
        from activsparse.report.sensitivity import draw_sensitivity, picture_kind

        kind = picture_kind(Path(args.plot))
    trained = load_run(args.run_dir, args.checkpoint, trust=args.trust)
    if trained.sparsifier is not None:
        trained.sparsifier.detach()
    console = plain_console()
    with ExitStack() as stack:
        # Opened first, so that a path that cannot be written is noticed before the work.
        files = {p: stack.enter_context(atomic_path(p)) for p in (args.out, args.plot) if p}
        batches = held_out_batches(trained.config, args.images)
        found = _measure(trained, batches, args)
        if args.out:
            with writing(args.out):
                write_sensitivity(found, files[args.out])
        if args.plot:
            with writing(args.plot):
                draw_sensitivity(found, files[args.plot], kind)
    _show(console, found, sum(len(images) for images, _ in batches))
    return 0


def _measure(
    trained: Run, batches: Sequence[tuple[Tensor, Tensor]], args: argparse.Namespace
) -> list[Sensitivity]:
    from rich.progress import Progress

    from activsparse.masks.options import UNTRAINED
    from activsparse.train.plan.sensitivity import SPARSITIES, measure_sensitivity
    from activsparse.train.tasks.task import held_out_loss

    with Progress(transient=True) as progress:
        task = progress.add_task("layers")
        return measure_sensitivity(
            trained.model,
            trained.example_input,
            batches,
            held_out_loss(trained.model, trained.example_input),
            args.sparsities or SPARSITIES,
            options=mask_options(args, UNTRAINED),
            advance=lambda done, total: progress.update(task, completed=done, total=total),
        )


def _show(console: Console, found: Sequence[Sensitivity], images: int) -> None:
    from rich.table import Table

    table = Table("layer", "requested", "achieved", "loss", "increase", "top-1")
    dense = found[0].loss - found[0].loss_increase
    table.title = f"{images} held-out images, loss of the dense network {dense:.4f}"
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
