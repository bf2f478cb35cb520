"""`activsparse quantize`: a float32 network, masked or not, as an int8 one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activsparse.cli.console import plain_console
from activsparse.cli.engine_options import (
    add_fallback_option,
    add_input_options,
    add_threads_option,
    input_sizes,
)
from activsparse.cli.numbers import number, positive, word
from activsparse.cli.run_folder import add_checkpoint, add_trust

if TYPE_CHECKING:
    from rich.console import Console

    from activsparse.quantisation.quantize import Quantised

__all__ = ["add_parser", "run"]

_WORST = 10


def add_parser(subparsers: Any) -> None:
    """Add the options of `activsparse quantize`."""
    from activsparse.quantisation.options import METHODS, QUANTISERS, QuantizeOptions

    default = QuantizeOptions()
    parser = subparsers.add_parser(
        "quantize",
        help="make an int8 network of a float32 one, masks and all",
        description="Quantise a float32 ONNX model, masked or not, to int8 (uint8 values, int8 "
        "weights, as QuantizeLinear and DequantizeLinear, which every ONNX engine runs), by ONNX "
        "Runtime's quantiser. Masks are kept exactly: positions they leave out hold real 0. Some "
        "samples decide the ranges of values, others tell what quantising costs: the "
        "signal-to-noise ratio of every output, and how often both networks say the same class. "
        "A run folder is calibrated on its training images and scored on its test images.",
    )
    # The model first: behind an option that takes several values it would be read as one of them.
    parser.usage = "activsparse quantize MODEL --data FOLDER|FILE.npz [--out OUT] [options]"
    parser.add_argument(
        "model", type=Path, metavar="MODEL", help="a float32 ONNX file, or a folder of train"
    )
    parser.add_argument(
        "--data",
        type=Path,
        metavar="PATH",
        help="a folder of images (train and test, or val, in it are taken for what they are "
        "called, sub-folders for classes where there are as many as the model has), or an .npz "
        "file: an array (M, ...) float32 for each input by name, and labels (M,) if there are any",
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="OUT",
        help="ONNX file to write (default: MODEL.int8.onnx beside the model, int8.onnx in a run "
        "folder)",
    )
    parser.add_argument(
        "--images",
        type=positive,
        default=default.images,
        metavar="N",
        help=f"samples to calibrate with, at most (default: {default.images})",
    )
    parser.add_argument(
        "--held-out",
        type=positive,
        default=default.held_out,
        metavar="N",
        help=f"other samples to compare on, at most (default: {default.held_out})",
    )
    parser.add_argument(
        "--quantiser",
        choices=QUANTISERS,
        default=default.quantiser,
        help="whose arithmetic: nncf (OpenVINO's; needs its package) corrects biases too, and has "
        f"ranges of its own (default: {default.quantiser})",
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default=default.method,
        help="range of a tensor: all that was seen, all but a share at both ends, or that of the "
        f"least divergence (default: {default.method})",
    )
    parser.add_argument(
        "--percentile",
        type=number(50, 100.0001, "share in percent above 50"),
        default=default.percentile,
        metavar="P",
        help=f"the share, for method percentile (default: {default.percentile})",
    )
    parser.add_argument(
        "--per-tensor",
        action="store_true",
        help="one scale for all channels of a weight (default: one for each)",
    )
    layers = parser.add_argument_group("layers that stay in float")
    layers.add_argument(
        "--keep-float",
        type=word,
        nargs="+",
        action="extend",
        default=[],
        metavar="GLOB",
        help="leave the layers of these names in float32",
    )
    layers.add_argument(
        "--accuracy-drop",
        type=number(0, 100, "number of points from 0 to 100"),
        metavar="POINTS",
        help="leave as many of the worst layers in float32 as it takes to lose no more than this: "
        "points of accuracy, or of agreement where there are no labels",
    )
    layers.add_argument(
        "--no-per-layer",
        action="store_true",
        help="do not measure what each layer costs, quantised alone",
    )
    images = parser.add_argument_group("from an image file to the network's input")
    images.add_argument(
        "--mean",
        type=float,
        nargs="+",
        metavar="M",
        help="subtracted from values in [0, 1], one or one per channel (default: ImageNet's)",
    )
    images.add_argument(
        "--std", type=float, nargs="+", metavar="S", help="what they are then divided by"
    )
    images.add_argument(
        "--fit",
        choices=("crop", "stretch"),
        default="crop",
        help="the middle of an image, as activsparse train sees it, or all of it (default: crop)",
    )
    add_input_options(parser)
    add_checkpoint(parser)
    add_trust(parser)
    add_threads_option(parser, 1, "of the engine that measures; default: 1")
    add_fallback_option(parser, "default: all of such a network")


def run(args: argparse.Namespace) -> int:
    """Quantise, print what it costs, write the file."""
    from activsparse.errors import ActivsparseError
    from activsparse.export.model_file import save_model
    from activsparse.files import atomic_path, writing
    from activsparse.overwrite import refuse_overwrite
    from activsparse.pipeline.progress import Measuring
    from activsparse.quantisation.files import default_out, quantise_file
    from activsparse.quantisation.options import QuantizeOptions
    from activsparse.quantisation.samples import Preprocessing

    if args.accuracy_drop is not None and args.no_per_layer:
        raise ActivsparseError(
            "--accuracy-drop chooses among the worst layers; leave --no-per-layer out"
        )
    out = args.out or default_out(args.model)
    refuse_overwrite([path for path in (args.model, args.data) if path], [out])
    options = QuantizeOptions(
        images=args.images,
        held_out=args.held_out,
        quantiser=args.quantiser,
        method=args.method,
        percentile=args.percentile,
        per_channel=not args.per_tensor,
        keep_float=tuple(args.keep_float),
        accuracy_drop=args.accuracy_drop,
        per_layer=not args.no_per_layer,
        threads=args.threads,
        fallback=args.fallback,
    )
    given = {"mean": args.mean, "std": args.std}
    preprocessing = Preprocessing(
        **{name: tuple(values) for name, values in given.items() if values}, fit=args.fit
    )
    bar = plain_console(stderr=True)
    # The output is opened first: better to fail now than after minutes.
    with (
        atomic_path(out) as temporary,
        Measuring("quantising", bar if bar.is_terminal else None) as progress,
    ):
        result = quantise_file(
            args.model,
            args.data,
            options=options,
            preprocessing=preprocessing,
            sizes=input_sizes(args),
            checkpoint=args.checkpoint,
            trust=args.trust,
            advance=lambda what, done, total: progress.advance(done, total, what),
        )
        with writing(out):
            save_model(result.model, temporary, out)
    _print(result, plain_console())
    print(f"Wrote {out}")
    return 0


def _print(result: Quantised, console: Console) -> None:
    console.print(f"{result.told} (float32 by onnxruntime, int8 by {result.engine})")
    for name, snr in result.difference.snr_db.items():
        console.print(f"output '{name}': signal-to-noise ratio {snr:.1f} dB")
    difference = result.difference
    if difference.agreement is not None:
        console.print(f"top-1 agreement of float32 and int8: {100 * difference.agreement:.2f} %")
    if difference.accuracy is not None:
        before, after = (100 * share for share in difference.accuracy)
        console.print(
            f"accuracy: {before:.2f} % before, {after:.2f} % after ({after - before:+.2f} points)"
        )
    if result.costs:
        worst = result.costs[:_WORST]
        console.print(
            "What hurts most (one layer quantised, all others in float32: signal-to-noise ratio "
            "of the worst output): "
            + ", ".join(f"{cost.name} {cost.snr_db:.1f} dB" for cost in worst)
        )
    kept = result.in_float
    if kept:
        console.print(f"In float32: {len(kept)} of {result.layers} layers ({', '.join(kept)})")
    if result.masks:
        console.print(f"Masks: {result.masks}, kept exactly")
