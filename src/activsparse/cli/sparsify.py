"""`activsparse sparsify`: from a network and a folder of images to a faster network."""

from __future__ import annotations

import argparse
import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from activsparse.cli.console import plain_console, wide_console
from activsparse.cli.engine_options import (
    add_fallback_option,
    add_input_options,
    add_peers_option,
    add_threads_option,
    input_sizes,
)
from activsparse.cli.numbers import natural, number, positive, word

if TYPE_CHECKING:
    from rich.console import Console

    from activsparse.pipeline.options import SparsifyOptions
    from activsparse.pipeline.outcome import Outcome
    from activsparse.pipeline.preview import Gain

__all__ = ["add_parser", "run", "words_of"]

_log = logging.getLogger(__name__)

_NEEDED = """\
These masks are as fast as trained ones, but nobody trained them: the model's answers are wrong,
and no file of it was kept (activsparse mask writes one).
To keep its accuracy, train with masks:
  activsparse sparsify NETWORK --data FOLDER --target-speedup {speedup:.2g} --out DIR
It needs FOLDER, labelled images, one sub-folder per class (some dozens of each are a start), and
NETWORK in torch: a torchvision name, timm:NAME or package.module:factory, with --weights FILE."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    parser = subparsers.add_parser(
        "sparsify",
        help="from a network and a folder of images to a faster network, in one command",
        description="Make a classifier or detector faster on this machine: fine-tune it to the "
        "classes of a folder of images where it does not know them yet, choose masks for a "
        "speed-up at the least measured loss, train with them, export, check and time it, and say "
        "what it gained and lost. OUT then holds dense.onnx, masked.onnx, report.html and a model "
        "card, README.md. The same command goes on where it was stopped. Without --data: what "
        "masks would gain on an ONNX model or a network here.",
    )
    parser.usage = "activsparse sparsify MODEL --data FOLDER --target-speedup X --out DIR [options]"
    parser.add_argument(
        "model",
        metavar="MODEL",
        help="a torchvision name, timm:NAME, or package.module:factory, for data with boxes "
        "yolov5n or yolov5s; without --data an ONNX file, too",
    )
    parser.add_argument(
        "--weights",
        type=word,
        metavar="FILE|default",
        help="of the network: a file, or the published ones (default: random ones)",
    )
    parser.add_argument(
        "--data",
        type=word,
        metavar="FOLDER",
        help="images as CLASS/*, of which a fifth is held out, or as train/CLASS/* with val and "
        "test beside it; pictures with boxes in the layout of COCO, YOLO or VOC; or the name of "
        "a data set, such as digits",
    )
    parser.add_argument(
        "--target-speedup",
        type=number(1, 1e6, "speed-up above 1"),
        metavar="X",
        help="times as fast as the dense network, for example 1.5",
    )
    parser.add_argument("--out", type=word, metavar="DIR", help="folder of all results")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a trial in minutes: at most 512 images, few epochs; its accuracy says little",
    )
    parser.add_argument(
        "--int8",
        action="store_true",
        help="quantise both networks as well, calibrated on training images, and time them beside",
    )
    parser.add_argument(
        "--alternatives",
        type=_alternatives,
        default=[],
        metavar="WHAT",
        help="train as long and time beside what masks are to be compared with, of the dense "
        "network: smaller-input (as fast as the masks), dense-longer, or both with a comma",
    )
    training = parser.add_argument_group("training")
    training.add_argument("--epochs", type=positive, metavar="N", help="with masks (default: 10)")
    training.add_argument(
        "--dense-epochs",
        type=natural,
        metavar="N",
        help="of the dense network before; 0 takes it as it is (default: 10, 30 from random "
        "weights, 0 where the head of --weights FILE has as many classes as the data)",
    )
    training.add_argument(
        "--batch-size", type=positive, metavar="N", help="images per step (default: 32)"
    )
    training.add_argument(
        "--set",
        metavar="KEY=VALUE",
        nargs="+",
        action="extend",
        default=[],
        help="change a key of the recipe, for example training.lr=1e-4 data.workers=4 (see "
        "activsparse train --recipe finetune --print-config)",
    )
    add_input_options(parser)
    engine = parser.add_argument_group("engine")
    add_threads_option(engine, 1, "of every engine; default: 1")
    add_fallback_option(engine)
    add_peers_option(engine)


def _alternatives(text: str) -> tuple[str, ...]:
    from activsparse.pipeline.options import ALTERNATIVES

    known = {_as_typed(name): name for name in ALTERNATIVES}
    asked = text.split(",")
    for unknown in asked:
        if unknown not in known:
            raise argparse.ArgumentTypeError(
                f"{unknown!r} is unknown; write {', '.join(known)} or both, with a comma"
            )
    return tuple(name for typed, name in known.items() if typed in asked)


def _as_typed(alternative: str) -> str:
    return alternative.replace(" ", "-")


def run(args: argparse.Namespace) -> int:
    """Run all stages, or time a model with masks that nobody trained."""
    from activsparse.errors import ActivsparseError

    if args.data is None:
        given = [
            option
            for option, value in {
                "--target-speedup": args.target_speedup,
                "--out": args.out,
                "--epochs": args.epochs,
                "--dense-epochs": args.dense_epochs,
                "--batch-size": args.batch_size,
                "--set": args.set,
                "--int8": args.int8,
                "--alternatives": args.alternatives,
            }.items()
            if value
        ]
        if given:
            raise ActivsparseError(
                f"{given[0]} is of training, which takes labelled images; name their folder with "
                "--data, or leave it out to see what masks would gain"
            )
        return _preview(args)
    for option, value in (("--target-speedup", args.target_speedup), ("--out", args.out)):
        if value is None:
            raise ActivsparseError(f"{option} is missing; give for example {_EXAMPLES[option]}")
    if Path(args.model).suffix == ".onnx":
        raise ActivsparseError(
            f"{args.model}: masks are trained with torch; name the network the file came from (a "
            "torchvision name, timm:NAME, package.module:factory) and --weights FILE, or leave out "
            "--data to see what masks would gain"
        )
    if args.input_shape or args.batch is not None:
        raise ActivsparseError(
            "--input-shape and --batch are for ONNX files without --data; for networks that are "
            "trained give --input-size"
        )
    return _carry_out(args)


_EXAMPLES = {"--target-speedup": "--target-speedup 1.5", "--out": "--out faster"}


def _carry_out(args: argparse.Namespace) -> int:
    from activsparse.engine.verify import MismatchError
    from activsparse.pipeline.options import SparsifyOptions
    from activsparse.pipeline.stages import carry_out
    from activsparse.pipeline.work import Work
    from activsparse.train.run.interrupt import Interrupted

    options = SparsifyOptions(
        model=args.model,
        data=args.data,
        target_speedup=args.target_speedup,
        weights=args.weights,
        input_size=args.input_size,
        batch_size=args.batch_size,
        dense_epochs=args.dense_epochs,
        epochs=args.epochs,
        quick=args.quick,
        int8=args.int8,
        alternatives=tuple(args.alternatives),
        threads=args.threads,
        engines=args.engines,
        fallback=args.fallback,
        settings=tuple(args.set),
    )
    folder = Path(args.out)
    command = shlex.join(["activsparse", "sparsify", *words_of(options), "--out", args.out])
    try:
        outcome = carry_out(Work(options, folder, _bars(), command))
    except (Interrupted, KeyboardInterrupt):
        _log.info("stopped; go on with: %s", command)
        return 130
    except MismatchError as error:
        print(f"activsparse: check failed: {error}", file=sys.stderr)
        return 1
    _show(wide_console(), outcome, folder)
    return 0


def words_of(options: SparsifyOptions) -> list[str]:
    """The options as one types them, without the folder of the results."""
    found = [options.model, "--data", options.data]
    found += ["--target-speedup", f"{options.target_speedup:g}"]
    size = None if options.input_size is None else "x".join(map(str, options.input_size))
    engines = options.engines
    valued = {
        "--weights": options.weights,
        "--input-size": size,
        "--batch-size": options.batch_size,
        "--dense-epochs": options.dense_epochs,
        "--epochs": options.epochs,
        "--threads": None if options.threads == 1 else options.threads,
        "--engines": None if engines is None else ",".join(engines) or "activsparse",
        "--fallback": options.fallback,
        "--alternatives": ",".join(map(_as_typed, options.alternatives)) or None,
    }
    for option, value in valued.items():
        found += [] if value is None else [option, str(value)]
    found += ["--quick"] * options.quick + ["--int8"] * options.int8
    return [*found, *(["--set", *options.settings] if options.settings else [])]


def _show(console: Console, outcome: Outcome, folder: Path) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from activsparse.bench.machine import summary_line
    from activsparse.pipeline.outcome import LEGEND

    console.print(f"On {summary_line(outcome.timing.machine)}:")
    table = Table(box=SIMPLE)
    for at, column in enumerate(outcome.columns):
        table.add_column(column, justify="left" if at < 2 else "right", no_wrap=True)
    for row in outcome.rows():
        table.add_row(*row)
    console.print(table)
    console.print(f"({LEGEND})")
    console.print()
    console.print(outcome.sentence)
    for more in (outcome.int8_sentence, outcome.alternative_sentence):
        if more:
            console.print(more)
    console.print(outcome.caveat)
    console.print(f"{folder / 'report.html'} shows it; {folder / 'README.md'} says how to use it")


def _preview(args: argparse.Namespace) -> int:
    from activsparse.errors import ActivsparseError
    from activsparse.pipeline.preview import preview, preview_network
    from activsparse.pipeline.timing import engines_at_hand

    engines = engines_at_hand() if args.engines is None else args.engines
    path = Path(args.model)
    if path.suffix == ".onnx" or path.is_file():
        if args.weights is not None:
            raise ActivsparseError("--weights is of a network by name; an ONNX file has its own")
        gains = preview(
            path,
            engines=engines,
            threads=args.threads,
            sizes=input_sizes(args),
            fallback=args.fallback,
            console=_bars(),
        )
    else:
        gains = preview_network(
            args.model,
            args.weights,
            args.input_size or (224, 224),
            engines=engines,
            threads=args.threads,
            fallback=args.fallback,
            console=_bars(),
        )
    _show_gains(wide_console(), args.model, gains)
    return 0


def _show_gains(console: Console, model: str, gains: Sequence[Gain]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    from activsparse.masks.mean import SAVED_IS, SPARSITY_IS
    from activsparse.pipeline.outcome import engine_name

    table = Table(box=SIMPLE, title=f"{model}, with masks that nobody trained")
    table.add_column("network")
    table.add_column("engine")
    for column in ("sparsity", "saved", "median ms", "x dense"):
        table.add_column(column, justify="right")
    for gain in gains:
        table.add_row(
            f"masked {gain.requested:g}" if gain.requested else "dense",
            engine_name(gain.engine),
            f"{100 * gain.savings.sparsity:.1f} %" if gain.requested else "",
            f"{100 * gain.savings.saved:.1f} %" if gain.requested else "",
            f"{gain.median_ms:.3f}",
            f"{gain.speedup:.2f}",
        )
    console.print(table)
    console.print(f"sparsity: {SPARSITY_IS}; saved: {SAVED_IS}")
    likely = next(gain.speedup for gain in gains if gain.requested)
    console.print(_NEEDED.format(speedup=max(likely, 1.1)))


def _bars() -> Console | None:
    """Where progress bars go, if there is a terminal."""
    console = plain_console(stderr=True)
    return console if console.is_terminal else None
