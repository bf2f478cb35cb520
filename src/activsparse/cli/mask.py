"""`activsparse mask`: masks for an existing dense ONNX model, without training."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from activsparse.cli.console import plain_console
from activsparse.cli.engine_options import add_fallback_option, add_input_options, input_sizes
from activsparse.cli.mask_options import add_mask_options, add_sparsity_option, mask_options
from activsparse.cli.numbers import natural

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from activsparse.export.mask import MaskReport

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the options."""
    from activsparse.masks.options import UNTRAINED

    parser = subparsers.add_parser(
        "mask",
        help="put masks into an existing dense ONNX model, without training",
        description="Put masks into a dense ONNX model without training, to see how fast it would "
        "be. Its outputs change: a model that is to be used must be trained with its masks. Every "
        "convolution is masked except the stem (the first one), the 1x1 projections of residual "
        "shortcuts, heads whose positions are the answer, and those with a single output position.",
    )
    # The model first: behind an option that takes several values it would be read as one of them.
    parser.usage = "activsparse mask MODEL (--sparsity S | --plan FILE) --out OUT [options]"
    parser.add_argument("model", metavar="MODEL", help="dense ONNX file")
    parser.add_argument("--out", required=True, metavar="OUT", help="ONNX file to write")
    which = parser.add_mutually_exclusive_group(required=True)
    add_sparsity_option(which, required=False)
    which.add_argument(
        "--plan",
        metavar="FILE.yaml",
        help="the masks of a mask plan (activsparse plan), bit for bit, whatever the options below",
    )
    add_mask_options(parser, UNTRAINED)
    add_input_options(parser)
    add_fallback_option(parser, "masks need none: other operators stay as they are")
    parser.add_argument(
        "--seed",
        type=natural,
        default=0,
        metavar="N",
        help="pattern random: of the score map (default: 0)",
    )
    parser.add_argument(
        "--replace", action="store_true", help="replace masks the model holds already"
    )


def run(args: argparse.Namespace) -> int:
    """Mask the model and print a table of its layers."""
    from activsparse.engine.plan_file import is_plan
    from activsparse.errors import ActivsparseError
    from activsparse.export.mask import mask_model
    from activsparse.export.mask_by_plan import mask_by_plan
    from activsparse.export.model_file import read_model, write_model
    from activsparse.masks.mask_plan_file import read_mask_plan
    from activsparse.masks.options import UNTRAINED
    from activsparse.overwrite import refuse_overwrite

    if is_plan(args.model):
        raise ActivsparseError(
            f"{args.model}: is a compiled plan; name the ONNX model it was made from"
        )
    refuse_overwrite([path for path in (args.model, args.plan) if path], [args.out])
    sizes = vars(input_sizes(args))
    if args.plan is not None:
        plan = read_mask_plan(args.plan)
        masked, report = mask_by_plan(
            read_model(args.model), plan, replace=args.replace, **sizes, name=args.model
        )
    else:
        masked, report = mask_model(
            read_model(args.model),
            options=mask_options(args, UNTRAINED),
            seed=args.seed,
            replace=args.replace,
            **sizes,
            name=args.model,
        )
    write_model(masked, args.out)
    console = plain_console()
    console.print(_table(report))
    console.print(f"{len(report.layers)} masked layers, {report.savings}")
    if far_off := [layer.name for layer in report.layers if layer.is_far_off]:
        why = (
            "auto skips where it saves most"
            if args.pattern == "auto"
            else "small maps allow few steps"
        )
        what = f"More than 0.1 off ({why}; other layers make up for it)"
        _print_names(console, what, far_off)
    for reason, names in _dense_by_reason(report).items():
        _print_names(console, f"Dense, {reason}", names)
    console.print(f"Wrote {args.out}")
    return 0


def _table(report: MaskReport) -> Table:
    from rich.table import Table

    table = Table(show_footer=True)
    table.add_column("layer", f"weighted mean of {len(report.layers)}", overflow="fold")
    table.add_column("kernel")
    table.add_column("output", justify="right")
    table.add_column("pattern")
    table.add_column("requested", f"{report.requested:.3f}", justify="right")
    table.add_column("sparsity", f"{report.savings.sparsity:.3f}", justify="right")
    for layer in report.layers:
        shape = layer.shape
        table.add_row(
            layer.name,
            f"{shape.kernel[0]}x{shape.kernel[1]}/{shape.stride[0]}",
            f"{shape.output[0]}x{shape.output[1]}",
            layer.pattern,
            f"{layer.requested:.3f}",
            f"{layer.achieved:.3f}",
        )
    return table


def _print_names(console: Console, what: str, names: list[str]) -> None:
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    console.print(f"{what}: {len(names)} ({shown})")


def _dense_by_reason(report: MaskReport) -> dict[str, list[str]]:
    reasons: dict[str, list[str]] = {}
    for name, reason in report.dense.items():
        reasons.setdefault(reason, []).append(name)
    return reasons
