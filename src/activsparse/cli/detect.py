"""`activsparse detect`: find objects in pictures and draw them."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

from activsparse.cli.console import plain_console
from activsparse.cli.engine_options import add_engine_options, session_options
from activsparse.cli.numbers import number

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the options of `activsparse detect`."""
    parser = subparsers.add_parser(
        "detect",
        help="find objects in pictures and draw them",
        description="Run a detector of the YOLOv5 or YOLOv8 kind on pictures, and write each with "
        "its boxes drawn as PNG.",
    )
    parser.usage = "activsparse detect MODEL IMAGE... [options]"
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX model or a plan")
    parser.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="pictures, PNG or JPEG"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("detections"),
        metavar="DIR",
        help="folder of the drawings (default: detections)",
    )
    parser.add_argument(
        "--names", type=Path, metavar="FILE", help="names of the classes, one a line"
    )
    parser.add_argument(
        "--score",
        type=number(0, 1.0001, "score between 0 and 1"),
        default=0.25,
        metavar="S",
        help="least score (default: 0.25)",
    )
    parser.add_argument(
        "--overlap",
        type=number(0, 1.0001, "overlap between 0 and 1"),
        default=0.45,
        metavar="IOU",
        help="largest overlap of two boxes of a class (default: 0.45)",
    )
    parser.add_argument(
        "--dense", type=Path, metavar="MODEL", help="another model, to compare with in --report"
    )
    parser.add_argument(
        "--report",
        type=Path,
        metavar="FILE.html",
        help="show what --dense and MODEL find side by side, in one file",
    )
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Detect, print one line per object, and write the drawings."""
    from activsparse import ActivsparseError, Session
    from activsparse.detect.boxes import found_alike
    from activsparse.detect.draw import draw, find, name_of, read_picture
    from activsparse.files import atomic_path, require_file
    from activsparse.overwrite import refuse_overwrite

    if (args.report is None) != (args.dense is None):
        raise ActivsparseError("--report compares MODEL with --dense; give both or neither")
    twice = [name for name, count in Counter(p.stem for p in args.images).items() if count > 1]
    if twice:
        raise ActivsparseError(
            f"several pictures are called {twice[0]}, as would be their drawings; detect apart"
        )
    read = [args.model, args.dense, args.names, *args.images]
    drawings = [args.out / f"{path.stem}.png" for path in args.images]
    refuse_overwrite([path for path in read if path is not None], [*drawings, args.report])
    names = require_file(args.names).read_text().splitlines() if args.names else []
    session = Session(args.model, **session_options(args))
    dense = None
    if args.dense is not None:
        dense = Session(args.dense, **session_options(args, args.dense))
    console = plain_console()
    pairs = []
    for path in args.images:
        picture = read_picture(path)
        found = find(session, picture, args.score, args.overlap)
        drawn = draw(picture, found, names)
        args.out.mkdir(parents=True, exist_ok=True)
        target = args.out / f"{path.stem}.png"
        with atomic_path(target) as temporary:
            drawn.save(temporary, format="PNG")
        console.print(f"{path}: {len(found.scores)} object(s), {target}")
        for box, score, label in zip(found.boxes, found.scores, found.labels, strict=True):
            corners = " ".join(f"{float(v):.0f}" for v in box)
            console.print(f"  {name_of(int(label), names)} {float(score):.2f} at {corners}")
        if dense is not None:
            from activsparse.report.detections import Pair

            other = find(dense, picture, args.score, args.overlap)
            counts = (len(other.scores), len(found.scores), found_alike(other, found))
            pairs.append(Pair(path.name, draw(picture, other, names), drawn, counts))
    if args.report is not None:
        from activsparse.report.detections import write_detections

        write_detections(pairs, (args.dense.name, args.model.name), args.report)
        console.print(f"Wrote {args.report}")
    return 0
