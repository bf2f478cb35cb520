"""`activsparse export`: a trained run as an ONNX file, a dense twin and a C header of masks."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from activsparse.export.onnx import Exported

__all__ = ["add_parser", "run"]


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the options."""
    parser = subparsers.add_parser(
        "export",
        help="write a trained run as an ONNX file, a dense twin and a C header of masks",
        description="Write a trained run as an ONNX file of standard operators: any ONNX engine "
        "computes the same outputs, this one faster. The file is compared with torch before it is "
        "written.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", help="folder written by activsparse train")
    parser.add_argument("--out", required=True, metavar="FILE", help="ONNX file to write")
    parser.add_argument(
        "--dense", metavar="FILE", help="also write the same weights without masks, as ONNX"
    )
    parser.add_argument("--header", metavar="FILE", help="also write the masks as a C header")
    parser.add_argument(
        "--checkpoint",
        choices=("best", "last"),
        default="best",
        help="which state of the run: the best validation score with final masks, or the last "
        "epoch (default: best)",
    )
    parser.add_argument(
        "--opset", type=int, default=18, help="ONNX operator set to write (default: 18)"
    )
    parser.add_argument(
        "--dynamic-batch", action="store_true", help="leave the number of images open"
    )
    parser.add_argument(
        "--no-verify",
        action="store_true",
        help="do not compare the file with torch, through ONNX Runtime",
    )


def run(args: argparse.Namespace) -> int:
    """Export the run: all files or none."""
    from rich.console import Console

    from activsparse.errors import ActivsparseError
    from activsparse.export.header import header_text
    from activsparse.export.model_file import save_model
    from activsparse.export.onnx import convert, without_masks
    from activsparse.files import atomic_path
    from activsparse.train.run import load_run

    targets = [Path(path) for path in (args.out, args.dense, args.header) if path]
    if len({path.resolve() for path in targets}) < len(targets):
        raise ActivsparseError("--out, --dense and --header name the same file; give each its own")
    with ExitStack() as stack:
        # Opened first, so that a path that cannot be written is noticed before the work.
        files = {path: stack.enter_context(atomic_path(path)) for path in targets}
        trained = load_run(args.run_dir, checkpoint=args.checkpoint)
        layers = [] if trained.sparsifier is None else trained.sparsifier.layers
        exported = convert(
            trained.model,
            trained.example_input,
            requested={layer.name: layer.requested for layer in layers},
            opset=args.opset,
            dynamic_batch=args.dynamic_batch,
            verify=not args.no_verify,
        )
        save_model(exported.model, files[Path(args.out)], args.out)
        if args.dense:
            save_model(without_masks(exported.model), files[Path(args.dense)], args.dense)
        if args.header:
            text = header_text(exported.masks, Path(args.header).name)
            files[Path(args.header)].write_text(text, encoding="ascii")
    console = Console(highlight=False)
    console.print(_summary(exported), markup=False)
    for path in targets:
        console.print(f"Wrote {path}", markup=False)
    return 0


def _summary(exported: Exported) -> str:
    from activsparse.masks import sparsity_of

    lines = []
    masks = exported.masks
    if masks:
        mean = sum(map(sparsity_of, masks.values())) / len(masks)
        lines.append(f"masked layers: {len(masks)}, mean sparsity {mean:.3f}")
    else:
        lines.append("A dense model: no layer has a mask")
    if exported.check is not None:
        check = exported.check
        lines.append(
            f"ONNX Runtime agrees with torch: largest error {check.error:.2e}, "
            f"bound {check.bound:.2e}"
        )
    return "\n".join(lines)
