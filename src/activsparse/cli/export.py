"""`activsparse export`: a trained run as an ONNX file, a dense twin and a C header of masks."""

from __future__ import annotations

import argparse
import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from activsparse.cli.console import plain_console
from activsparse.cli.numbers import positive
from activsparse.cli.run_folder import add_checkpoint, add_trust

if TYPE_CHECKING:
    from activsparse.export.check import Check
    from activsparse.export.onnx import Exported
    from activsparse.train.run.folder import Run

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the options."""
    parser = subparsers.add_parser(
        "export",
        help="write a trained run as an ONNX file, a dense twin and a C header of masks",
        description="Write a trained run as an ONNX file of standard operators: any ONNX engine "
        "computes the same outputs, this one faster. The file is compared with torch before it is "
        "written. With --tflite, the same for LiteRT.",
    )
    parser.add_argument(
        "run_dir",
        metavar="RUN_DIR",
        help="folder written by activsparse train; for --header alone also an ONNX file with masks",
    )
    parser.add_argument("--out", metavar="FILE", help="ONNX file to write")
    parser.add_argument(
        "--tflite",
        metavar="FILE",
        help="also, or instead of --out, write a .tflite file for LiteRT, through litert-torch",
    )
    parser.add_argument(
        "--dense", metavar="FILE", help="also write the same weights without masks, as ONNX"
    )
    parser.add_argument(
        "--header",
        metavar="FILE",
        help="also write the masks as a C header; of an ONNX file, these alone",
    )
    add_checkpoint(parser)
    parser.add_argument(
        "--opset",
        type=positive,
        default=18,
        metavar="N",
        help="ONNX operator set to write (default: 18)",
    )
    parser.add_argument(
        "--dynamic-batch", action="store_true", help="leave the number of images open"
    )
    parser.add_argument(
        "--no-verify",
        action="store_true",
        help="do not compare the files with torch, through ONNX Runtime or LiteRT",
    )
    add_trust(parser)


def run(args: argparse.Namespace) -> int:
    """Export the run: all files or none."""
    from activsparse.errors import ActivsparseError
    from activsparse.export.header import header_text
    from activsparse.export.model_file import save_model
    from activsparse.export.onnx import convert, without_masks
    from activsparse.files import atomic_path, writing
    from activsparse.overwrite import refuse_overwrite

    if Path(args.run_dir).is_file():
        return _header_of_file(args)
    from activsparse.train.run.folder import load_run

    if not args.out and (args.dense or args.header or not args.tflite):
        raise ActivsparseError("--out is missing; name the ONNX file to write, or give --tflite")
    targets = [Path(path) for path in (args.out, args.dense, args.header, args.tflite) if path]
    if len({os.path.realpath(path) for path in targets}) < len(targets):
        raise ActivsparseError(
            "--out, --dense, --header and --tflite: two name the same file; give each its own"
        )
    refuse_overwrite([args.run_dir], targets)
    lines = []
    with ExitStack() as stack:
        # Opened first, so that a path that cannot be written is noticed before the work.
        files = {path: stack.enter_context(atomic_path(path)) for path in targets}
        trained = load_run(args.run_dir, checkpoint=args.checkpoint, trust=args.trust)
        if args.out:
            layers = [] if trained.sparsifier is None else trained.sparsifier.layers
            exported = convert(
                trained.model,
                trained.example_input,
                requested={layer.name: layer.requested for layer in layers},
                opset=args.opset,
                dynamic_batch=args.dynamic_batch,
                verify=not args.no_verify,
            )
            with writing(args.out):
                save_model(exported.model, files[Path(args.out)], args.out)
            lines.append(_summary(exported, trained))
        if args.dense:
            with writing(args.dense):
                save_model(without_masks(exported.model), files[Path(args.dense)], args.dense)
        if args.header:
            text = header_text(exported.masks, Path(args.header).name)
            with writing(args.header):
                files[Path(args.header)].write_text(text, encoding="ascii")
        if args.tflite:
            check = _export_tflite(trained, files[Path(args.tflite)], not args.no_verify)
            if check is not None:
                lines.append(_agreement("LiteRT", check))
    console = plain_console()
    console.print("\n".join(lines))
    for path in targets:
        console.print(f"Wrote {path}")
    return 0


def _header_of_file(args: argparse.Namespace) -> int:
    """Write the masks of an ONNX file, of whoever made it, as a C header."""
    from activsparse.errors import ActivsparseError
    from activsparse.export.header import header_text
    from activsparse.export.read import read_masks
    from activsparse.files import atomic_path
    from activsparse.overwrite import refuse_overwrite

    given = {"--out": args.out, "--tflite": args.tflite, "--dense": args.dense}
    others = [option for option, value in given.items() if value]
    if others or not args.header:
        raise ActivsparseError(
            f"{args.run_dir}: {others[0] if others else 'export'} needs a run folder; "
            "of an ONNX file --header FILE writes the masks"
        )
    refuse_overwrite([args.run_dir], [Path(args.header)])
    masks = read_masks(args.run_dir, every=True)
    if not masks:
        raise ActivsparseError(f"{args.run_dir}: has no masks to write; it is a dense model")
    text = header_text(masks, Path(args.header).name)
    with atomic_path(args.header) as temporary:
        temporary.write_text(text, encoding="ascii")
    console = plain_console()
    console.print(f"{len(masks)} masked layers")
    console.print(f"Wrote {args.header}")
    return 0


def _summary(exported: Exported, trained: Run) -> str:
    lines = []
    if exported.masks and trained.sparsifier is not None:
        lines.append(f"{len(exported.masks)} masked layers, {trained.sparsifier.savings}")
    else:
        lines.append("A dense model: no layer has a mask")
    if exported.check is not None:
        lines.append(_agreement("ONNX Runtime", exported.check))
    return "\n".join(lines)


def _agreement(engine: str, check: Check) -> str:
    return f"{engine} agrees with torch: largest error {check.error:.2e}, bound {check.bound:.2e}"


def _export_tflite(trained: Run, path: Path, verify: bool) -> Check | None:
    from activsparse.export.tflite import export_tflite

    return export_tflite(trained.model, trained.example_input, path, verify=verify)
