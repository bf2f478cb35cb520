"""`activsparse convert`: an ONNX model, masked or not, as a .tflite file."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from activsparse.cli.console import plain_console
from activsparse.cli.engine_options import add_fallback_option, add_input_options, input_shapes

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the options of `activsparse convert`."""
    parser = subparsers.add_parser(
        "convert",
        help="write an ONNX model, masked or not, as a .tflite file for LiteRT",
        description="Write an ONNX model as a .tflite file of LiteRT's own operators, images in "
        "(N, H, W, C). Any LiteRT computes the same outputs, with this engine's delegate faster. "
        "A quantised model (QDQ form) becomes an int8 file. "
        "The file is compared with ONNX Runtime before it is written.",
    )
    parser.add_argument("model", type=Path, metavar="ONNX", help="the model")
    parser.add_argument("--tflite", type=Path, required=True, metavar="FILE", help="file to write")
    parser.add_argument(
        "--no-verify", action="store_true", help="do not compare the two files' outputs"
    )
    add_input_options(parser)
    add_fallback_option(parser, "refused where one is needed: a .tflite file holds none")


def run(args: argparse.Namespace) -> int:
    """Convert the model."""
    from activsparse.litert import convert
    from activsparse.overwrite import refuse_overwrite

    refuse_overwrite([args.model], [args.tflite])
    shapes = input_shapes(args, args.model)
    result = convert(
        args.model,
        args.tflite,
        input_shapes=shapes,
        verify=not args.no_verify,
        fallback=args.fallback,
    )
    console = plain_console()
    for error in result.errors:
        console.print(
            f"LiteRT agrees with ONNX Runtime on '{error.name}': largest error "
            f"{error.max_abs_err:.2e}, bound {error.bound:.2e}, relative {error.max_rel_err:.2e}"
        )
    size = result.bytes / 2**20
    console.print(f"Wrote {args.tflite}: {result.operators} operators, {size:.1f} MiB")
    return 0
