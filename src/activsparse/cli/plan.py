"""`activsparse plan`: the masks of a network for a speed-up, at the least measured loss."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from activsparse.cli.console import plain_console, wide_console
from activsparse.cli.engine_options import add_isa_option, add_threads_option
from activsparse.cli.mask_options import add_mask_options
from activsparse.cli.numbers import image_size, natural, number, positive
from activsparse.cli.run_folder import add_checkpoint, add_trust

if TYPE_CHECKING:
    from rich.console import Console

    from activsparse.cli.plan_choice import Choice
    from activsparse.train.plan.plan_network import Found

__all__ = ["FRONTIER", "add_parser", "run"]

_log = logging.getLogger(__name__)

FRONTIER = (1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0)


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    from activsparse.masks import MaskOptions
    from activsparse.masks.plan_options import DEFAULT_PATTERNS, PLAN_PATTERNS

    parser = subparsers.add_parser(
        "plan",
        help="choose the masks of a network for a speed-up, at the least measured loss",
        description="Choose the mask of every layer so that the whole network becomes as fast as "
        "asked on this machine and its loss grows least. Losses are measured on training images "
        "without variation, layer by layer, then again around the solution; the network's time in "
        "this engine. Writes a mask plan for `activsparse train --plan` and `mask --plan`, and a "
        "picture beside it. What was measured is kept beside the output: a stopped command goes "
        "on where it was. `activsparse calibrate` makes its estimates better.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL_OR_RUN",
        help="folder written by activsparse train, or a network: a torchvision name, timm:NAME, "
        "package.module:factory",
    )
    parser.add_argument(
        "--weights", metavar="FILE|default", help="of a network: a file, or the published ones"
    )
    parser.add_argument(
        "--data", metavar="NAME", help="images that losses are measured on (default: a run's own)"
    )
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data")
    parser.add_argument(
        "--image-size", type=image_size, metavar="HxW", help="of the network's input"
    )
    parser.add_argument(
        "--images", type=positive, default=256, metavar="N", help="images (default: 256)"
    )
    parser.add_argument("--batch-size", type=positive, default=64, metavar="N", help="default: 64")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument(
        "--target-speedup",
        dest="targets",
        type=_speedups,
        metavar="X[,X...]",
        help="times as fast as the dense network, for example 1.5; several, with commas, make "
        "one plan each: OUT with the speed-up in its name",
    )
    target.add_argument(
        "--frontier",
        dest="targets",
        action="store_const",
        const=FRONTIER,
        help=f"short for --target-speedup {','.join(map('{:g}'.format, FRONTIER))}",
    )
    parser.add_argument("--out", required=True, metavar="FILE.yaml", help="mask plan to write")
    parser.add_argument(
        "--plot", metavar="FILE.png", help="picture to write (default: OUT with .png)"
    )
    options = parser.add_argument_group("options that layers choose from")
    options.add_argument(
        "--patterns",
        choices=PLAN_PATTERNS,
        nargs="+",
        default=list(DEFAULT_PATTERNS),
        help=f"default: {' '.join(DEFAULT_PATTERNS)} (bands of rows are for residual "
        "branches; random blocks save what a lattice saves, and lose more)",
    )
    options.add_argument(
        "--fills",
        choices=("zero", "nearest"),
        nargs="+",
        default=["zero", "nearest"],
        help="default: zero nearest",
    )
    options.add_argument(
        "--masks", type=positive, default=4, metavar="N", help="of each pattern (default: 4)"
    )
    options.add_argument(
        "--allow",
        type=_allowed,
        default=[],
        metavar="WHAT",
        help="what else may change: input-size (smaller images), channels (fewer, of a run), or "
        "both with a comma, together and alone, with and without masks",
    )
    options.add_argument(
        "--train-epochs",
        type=positive,
        metavar="N",
        help="choose among what --allow allows by training: each candidate of a run, with its "
        "masks, is trained on for N epochs as the run was, taught by it, and the one of least "
        "held-out loss is chosen (default: the one that loses least before training)",
    )
    parser.add_argument(
        "--rounds",
        type=natural,
        default=2,
        metavar="N",
        help="how often losses are measured again around the solution (default: 2)",
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="go by estimated times of the convolutions alone, time nothing",
    )
    parser.add_argument(
        "--repeat", type=positive, default=60, metavar="N", help="timed runs (default: 60)"
    )
    which = ("skip", "only", "skip_stem", "skip_shortcuts", "skip_head", "phases")
    add_mask_options(parser, MaskOptions(), which=which)
    add_checkpoint(parser)
    add_isa_option(parser)
    add_threads_option(parser, 1, "default: 1")
    add_trust(parser)


def _speedups(text: str) -> tuple[float, ...]:
    parse = number(1, 1e6, "speed-up above 1")
    return tuple(dict.fromkeys(parse(word) for word in text.split(",")))


def _allowed(text: str) -> tuple[str, ...]:
    words = tuple(text.split(","))
    for word in words:
        if word not in ("input-size", "channels"):
            raise argparse.ArgumentTypeError(
                f"{word!r} is unknown; write input-size, channels or both, with a comma"
            )
    return words


def run(args: argparse.Namespace) -> int:
    """Plan, and write what was chosen."""
    import activsparse.train.plan.plan_network  # noqa: F401  (what is missing shows first)
    from activsparse.cli.plan_choice import choose
    from activsparse.cli.plan_variants import find_plans, keep_pruned, subject_of
    from activsparse.engine.calibrate import this_table
    from activsparse.engine.compile import NATIVE, target_isa
    from activsparse.errors import ActivsparseError
    from activsparse.masks.mask_plan_file import write_mask_plan
    from activsparse.overwrite import refuse_overwrite
    from activsparse.pipeline.progress import Measuring
    from activsparse.report.plan import draw_frontier, draw_plan
    from activsparse.report.sensitivity import picture_kind
    from activsparse.train.run.interrupt import Interrupted

    out = Path(args.out)
    if out.is_dir():
        raise ActivsparseError(f"{out}: is a folder; name a file to write")
    plot = Path(args.plot) if args.plot else out.with_suffix(".png")
    kind = picture_kind(plot)
    refuse_overwrite([args.model, *([args.weights] if args.weights else [])], [out, plot])
    if not out.parent.is_dir():
        raise ActivsparseError(f"{out}: its folder does not exist; create it first")
    if args.train_epochs is not None and not args.allow:
        raise ActivsparseError(
            "--train-epochs chooses among variants of the network; say which with --allow "
            "input-size,channels, or leave it out"
        )
    subject = subject_of(args)
    isa = args.isa or target_isa(NATIVE)
    table, where = this_table(isa, args.threads)
    console = wide_console()
    console.print(where)
    targets, several = args.targets, len(args.targets) > 1
    errors = plain_console(stderr=True)
    bar = errors if errors.is_terminal else None
    with Measuring("measuring losses", bar) as progress:
        candidates = find_plans(args, subject, targets, table, where, isa, progress)
    try:
        chosen = choose(args, subject, candidates, bar)
    except Interrupted:
        _log.info("stopped; the same command goes on from here")
        return 130
    if args.train_epochs is not None:
        _show_trained(console, chosen)
    found = {target: choices[0].candidate for target, choices in chosen.items()}
    for target, best in found.items():
        each, variant = best.found, best.variant
        path = out.with_name(f"{out.stem}-{target:g}{out.suffix}") if several else out
        picture = path.with_suffix(plot.suffix) if several else plot
        write_mask_plan(each.plan, path)
        if variant.ratio:
            pruned = path.with_name(f"{path.stem}-pruned")
            keep_pruned(args, variant, pruned)
            console.print(f"Wrote {pruned}, the run the plan is for")
        _write_picture(picture, kind, partial(draw_plan, each.plan, best.dense))
        if not several:
            _show(console, each, best.dense)
        console.print(f"Wrote {path}")
    if several:
        points = [(best.found.speedup, best.found.loss) for best in found.values()]
        base = next(iter(found.values())).found.dense_loss
        _write_picture(plot, kind, partial(draw_frontier, points, base))
        _show_frontier(console, targets, {t: best.found for t, best in found.items()})
    console.print(f"Wrote {plot}")
    return 0


def _write_picture(path: Path, kind: str, draw: Callable[[Path, str], None]) -> None:
    from activsparse.files import atomic_path

    with atomic_path(path) as file:
        draw(file, kind)


def _show(console: Console, found: Found, dense: dict[str, float]) -> None:
    from rich.table import Table

    from activsparse.masks.mask_plan import describe
    from activsparse.masks.mean import SPARSITY_IS

    table = Table("layer", "convolution", "mask", "fill", "sparsity", "dense ms", "ms", "loss")
    shares = found.plan.sparsities()
    for name, layer in found.plan.layers.items():
        table.add_row(
            name,
            describe(layer.conv),
            str(layer.exact),
            "" if layer.dense else layer.fill,
            f"{shares.get(name, 0.0):.3f}",
            f"{dense[name]:.3f}",
            f"{layer.ms:.3f}",
            f"{layer.loss:+.4f}",
        )
    console.print(table)
    notes = found.plan.notes
    size = "x".join(map(str, found.plan.input_size))
    console.print(
        f"{found.speedup:.2f} times as fast ({notes['speedup_is']}), input {size}, "
        f"loss {found.dense_loss:.4f} -> {found.loss:.4f}; sparsity {found.plan.sparsity:.3f} "
        f"({SPARSITY_IS})"
    )
    target = float(notes["target_speedup"])
    if notes["speedup_is"] == "measured" and abs(found.speedup / target - 1) > 0.05:
        console.print(f"That is the nearest to {target:g} that was found; is the machine busy?")


def _show_trained(console: Console, chosen: dict[float, list[Choice]]) -> None:
    """What was trained, the best for each target first."""
    from rich.table import Table

    table = Table(
        *("target", "input", "channels left out", "layers masked", "times as fast"),
        *("loss", "held-out loss, trained"),
    )
    for target, choices in chosen.items():
        for choice in choices:
            each, variant = choice.candidate.found, choice.candidate.variant
            table.add_row(
                f"{target:g}",
                "x".join(map(str, variant.size)),
                f"{variant.ratio:g}" if variant.ratio else "",
                f"{len(each.plan.masked())} of {len(each.plan.layers)}",
                f"{each.speedup:.2f}",
                f"{each.loss:.4f}",
                f"{choice.trained_loss:.4f}",
            )
    console.print(table)


def _show_frontier(console: Console, targets: Sequence[float], found: dict[float, Found]) -> None:
    from rich.table import Table

    table = Table("target", "times as fast", "input", "loss", "layers masked")
    for target, each in found.items():
        table.add_row(
            f"{target:g}",
            f"{each.speedup:.2f}",
            "x".join(map(str, each.plan.input_size)),
            f"{each.loss:.4f}",
            f"{len(each.plan.masked())} of {len(each.plan.layers)}",
        )
    for target in targets:
        if target not in found:
            table.add_row(f"{target:g}", "out of reach")
    console.print(table)
