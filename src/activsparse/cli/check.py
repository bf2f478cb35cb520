"""`activsparse check`: do these networks run, right, dense and masked, and how fast?"""

from __future__ import annotations

import argparse
import csv
import logging
import tempfile
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activsparse.cli.console import plain_console
from activsparse.cli.engine_options import (
    add_choice_options,
    add_fallback_option,
    add_input_options,
    add_isa_option,
    input_sizes,
)
from activsparse.cli.mask_options import add_mask_options, add_sparsity_option, mask_options
from activsparse.cli.numbers import natural, positive
from activsparse.cli.wording import speller
from activsparse.errors import ActivsparseError

if TYPE_CHECKING:
    from activsparse.bench.trial import Trial
    from activsparse.input_sizes import InputSizes
    from activsparse.masks.options import MaskOptions

__all__ = ["add_parser", "export_named", "mask_file", "run"]

_log = logging.getLogger(__name__)

_SIZE = (224, 224)


def add_parser(subparsers: Any) -> None:
    """Add the options of `activsparse check`."""
    from activsparse.masks.options import UNTRAINED

    parser = subparsers.add_parser(
        "check",
        help="try networks: verified dense, verified masked, timed if asked for; a line each",
        description="Verify every network against ONNX Runtime as it is and with masks, and print "
        "one line on each. Networks by name (resnet18, timm:mobilenetv3_large_100, "
        "package.module:factory) have random weights and 1000 classes. Exit status 1 where one "
        "stops or is wrong.",
    )
    parser.add_argument(
        "models", nargs="+", metavar="FILE|NAME", help="an ONNX file or the name of a network"
    )
    add_sparsity_option(parser, required=False, default=0.3)
    add_mask_options(parser, UNTRAINED)
    parser.add_argument(
        "--time",
        action="store_true",
        help="time both on one thread, and the model as it is in the other engines installed here",
    )
    parser.add_argument(
        "--repeat", type=positive, default=30, metavar="N", help="timed runs (default: 30)"
    )
    parser.add_argument("--csv", type=Path, metavar="FILE", help="write the lines there as well")
    parser.add_argument(
        "--seed", type=natural, default=0, metavar="N", help="of inputs and weights (default: 0)"
    )
    add_input_options(parser)
    add_isa_option(parser)
    add_fallback_option(parser)
    add_choice_options(parser)


def run(args: argparse.Namespace) -> int:
    """Try one after the other; 1 where one stops or is wrong."""
    import onnxruntime  # noqa: F401  (what is missing shows first)

    from activsparse.bench.machine import busy_warning
    from activsparse.bench.trial import Trial
    from activsparse.engine.input_size import inputs_of
    from activsparse.engine.plan_file import is_plan
    from activsparse.masks.options import UNTRAINED
    from activsparse.overwrite import refuse_overwrite

    if args.csv:
        refuse_overwrite(args.models, [args.csv])
        _write(args.csv, [])  # better to fail now than after minutes
    options = mask_options(args, UNTRAINED)
    if args.time and (busy := busy_warning()):
        _log.warning("%s", busy)
    console = plain_console()
    found = []
    for model in args.models:
        sizes = input_sizes(args)
        try:
            if Path(model).is_file() and not is_plan(model):
                sizes = sizes.filled(inputs_of(model), model)
            trial = _try(model, args, options, sizes)
        except ActivsparseError as error:  # it cannot even be had
            trial = Trial(model, f"stops: {error.worded(speller('check'))}")
        console.print(_line(trial, options.sparsity, _not_asked_for(args, sizes)))
        found.append(trial)
        if args.csv:
            _write(args.csv, found)
    return 0 if all(trial.holds for trial in found) else 1


def _not_asked_for(args: argparse.Namespace, sizes: InputSizes) -> str:
    """The sizes that a model leaves open and the command line does not give."""
    given = input_sizes(args).input_shapes
    shapes = {name: shape for name, shape in sizes.input_shapes.items() if name not in given}
    return " ".join(f"{name}={'x'.join(map(str, shape))}" for name, shape in shapes.items())


def _try(model: str, args: argparse.Namespace, options: MaskOptions, sizes: InputSizes) -> Trial:
    from activsparse.bench.trial import try_model
    from activsparse.engine.plan_file import is_plan
    from activsparse.input_sizes import InputSizes
    from activsparse.pipeline.timing import engines_at_hand

    def told(error: ActivsparseError) -> str:
        return error.worded(speller("check")).replace(str(path), model)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(model)
        if path.is_file() and is_plan(path):
            raise ActivsparseError(
                f"{model}: ONNX Runtime cannot run a compiled plan; "
                "name the model it was compiled from"
            )
        if path.suffix != ".onnx" and not path.is_file():
            path = Path(folder) / "model.onnx"
            export_named(model, path, sizes.input_size or _SIZE, args.seed)
            sizes = InputSizes()
        return try_model(
            model,
            path,
            partial(mask_file, options=options, sizes=sizes),
            seed=args.seed,
            engines=engines_at_hand() if args.time else (),
            repeat=args.repeat,
            sizes=sizes,
            told=told,
            session={
                "isa": args.isa,
                "winograd": not args.no_winograd,
                "fallback": args.fallback,
                "weights": args.weights,
                "precision": args.precision,
                **({"tune": False} if args.no_tune else {}),
            },
        )


def export_named(name: str, path: Path, size: tuple[int, int], seed: int) -> None:
    """Write a network by name, with random weights, as an ONNX file of batch 1.

    Raises:
        ActivsparseError: no such network, or torch cannot export it.
    """
    import torch

    from activsparse.export.onnx import export_onnx
    from activsparse.models import build_model, build_segmenter, is_segmenter

    torch.manual_seed(seed)
    model = build_segmenter(name) if is_segmenter(name) else build_model(name, 1000)
    export_onnx(model.eval(), torch.randn(1, 3, *size), path, verify=False)


def mask_file(model: Path, out: Path, options: MaskOptions, sizes: InputSizes) -> int:
    """Write a masked copy of a model and return how many layers of it have masks.

    Returns 0, and writes none, where there is nothing to mask; quantised models get theirs before.
    """
    from activsparse.export.mask import mask_model
    from activsparse.export.model_file import read_model, write_model
    from activsparse.masks.requests import NothingToMaskError
    from activsparse.onnx_file import QuantisedError

    dense, name = read_model(model), str(model)
    try:
        masked, report = mask_model(dense, options=options, name=name, replace=True, **vars(sizes))
    except (NothingToMaskError, QuantisedError):
        return 0
    write_model(masked, out)
    return len(report.layers)


def _line(trial: Trial, sparsity: float, at: str) -> str:
    parts = [f"{trial.model}{at and f' at {at}'}: dense {trial.dense}"]
    if trial.masked:
        layers = f" ({trial.layers} layers at {sparsity:g})" if trial.layers else ""
        parts.append(f"masked {trial.masked}{layers}" if layers else trial.masked)
    if trial.dense_ms:
        masked = f", masked {trial.masked_ms:.2f} ms" if trial.masked_ms else ""
        parts.append(f"{trial.dense_ms:.2f} ms{masked}")
    if trial.peer_ms and trial.dense_ms:
        ratios = [trial.peer_ms / ms for ms in (trial.dense_ms, trial.masked_ms) if ms]
        times = " and ".join(f"{ratio:.2f}" for ratio in ratios)
        parts.append(f"{times} times as fast as {trial.peer}")
    return "; ".join(parts)


def _write(path: Path, found: list[Trial]) -> None:
    from activsparse.bench.trial import Trial
    from activsparse.files import atomic_path

    with atomic_path(path) as file, file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, [f.name for f in fields(Trial)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(trial) for trial in found)
