"""`activsparse bench`: time dense and sparse models on several engines."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activsparse.cli.console import plain_console
from activsparse.cli.engine_options import (
    add_choice_options,
    add_fallback_option,
    add_input_options,
    add_isa_option,
    add_threads_option,
    engine_names,
    input_shapes,
    input_sizes,
)
from activsparse.cli.numbers import repeats
from activsparse.cli.run_folder import add_trust
from activsparse.cli.wording import spell

if TYPE_CHECKING:
    from rich.table import Table

    from activsparse.bench.compare import Comparison
    from activsparse.data import BatchData

__all__ = ["add_parser", "run"]

DEFAULT_ENGINES = ("activsparse", "onnxruntime")


def add_parser(subparsers: Any) -> None:
    """Add the options of `activsparse bench`."""
    parser = subparsers.add_parser(
        "bench",
        help="time dense and sparse models on several engines, interleaved",
        description="Check every engine's output against ONNX Runtime, then time all models on all "
        "engines in one interleaved run. Nothing is timed when an output is wrong. Of quantised "
        "models engines that cannot run them are left out with a warning, and ratios between int8 "
        "and float32 are labelled. For stable figures with one thread, pin the process: "
        "taskset -c 1 activsparse bench ...",
    )
    parser.add_argument("--dense", type=Path, required=True, metavar="ONNX", help="dense model")
    parser.add_argument(
        "--sparse",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="ONNX",
        help="masked models to set against it",
    )
    parser.add_argument(
        "--engines",
        type=_engines,
        default=",".join(DEFAULT_ENGINES),
        metavar="NAME,...",
        help="comma-separated: activsparse, onnxruntime, openvino, ncnn, xnnpack (needs a .pte "
        "file beside the ONNX one), inductor (torch.compile; needs a .pt2 file) "
        "(default: %(default)s)",
    )
    parser.add_argument(
        "--repeat",
        type=repeats,
        default=50,
        metavar="R",
        help="timed runs per model and engine (default: 50)",
    )
    parser.add_argument(
        "--peers-dense-only",
        action="store_true",
        help="do not run masked models on the other engines, which gain nothing by masks",
    )
    parser.add_argument(
        "--run",
        type=Path,
        metavar="DIR",
        help="run folder of train: also count, in this engine, how many of its held-out images "
        "each model classifies rightly",
    )
    add_trust(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures as JSON")
    add_input_options(parser)
    engine = parser.add_argument_group("engine")
    add_threads_option(engine, 1, "of every engine; default: 1")
    add_isa_option(engine)
    add_fallback_option(engine)
    add_choice_options(engine)


def run(args: argparse.Namespace) -> int:
    """Run the comparison; exit status 1 where an engine's output is wrong."""
    import sys

    from rich.measure import Measurement

    from activsparse.bench.compare import DisagreementError

    try:
        comparison = _measure(args)
    except DisagreementError as error:
        print(f"activsparse: check failed: {error.worded(spell)}", file=sys.stderr)
        return 1
    comparison.log_busy()
    console, shown = plain_console(), table(comparison)
    # A terminal breaks lines that are too long; columns must not go missing.
    wide = console.options.update(max_width=1000)
    needed = Measurement.get(console, wide, shown).maximum
    console.width = max(console.width, needed) if console.is_terminal else needed
    console.print(heading(comparison))
    console.print(shown)
    console.print(legend(comparison), soft_wrap=False)
    return 0


def _measure(args: argparse.Namespace) -> Comparison:
    import json
    from contextlib import nullcontext
    from dataclasses import asdict, replace

    from rich.progress import Progress

    from activsparse.bench.compare import FLOAT32, OWN_ENGINE, compare
    from activsparse.errors import ActivsparseError
    from activsparse.files import atomic_path, require_file
    from activsparse.overwrite import refuse_overwrite

    if args.run is not None and OWN_ENGINE not in args.engines:
        raise ActivsparseError(
            f"--run counts in {OWN_ENGINE}, which --engines leaves out; name it there, too"
        )
    models = [require_file(path) for path in (args.dense, *args.sparse)]
    programs = [path.with_suffix(end) for path in models for end in (".pte", ".pt2")]
    refuse_overwrite([*models, *programs], [args.json])
    data = None
    if args.run is not None:
        from activsparse.pipeline.accuracy import held_out_images

        data = held_out_images(args.run, args.trust)
    on_sparse = len(args.engines)
    if args.peers_dense_only:
        on_sparse = int(OWN_ENGINE in args.engines)
    runs = args.repeat * (len(args.engines) + on_sparse * len(args.sparse))
    half = "float16" in (args.weights, args.precision)
    if half and OWN_ENGINE in args.engines:  # and float32 beside it
        runs += args.repeat * len(models)
    console = plain_console(stderr=True)
    session = {
        "isa": args.isa,
        "winograd": not args.no_winograd,
        "tune": not args.no_tune,
        "fallback": args.fallback,
        "weights": args.weights,
        "precision": args.precision,
    }
    # The output is opened first: better to fail now than after minutes of timing.
    with (
        atomic_path(args.json) if args.json else nullcontext() as json_path,
        Progress(console=console, transient=True, disable=not console.is_terminal) as progress,
    ):
        exact = {**session, "weights": "float32", "precision": "float32"}
        top1 = {
            asked: {} if data is None else _top1(args, data, session if asked else exact)
            for asked in dict.fromkeys((False, half))
        }
        task = progress.add_task("timing", total=runs)
        comparison = compare(
            args.dense,
            args.sparse,
            args.engines,
            threads=args.threads,
            repeat=args.repeat,
            **vars(input_sizes(args)),
            peers_on_sparse=not args.peers_dense_only,
            # All algorithms are measured, however long it takes: figures must not depend on
            # whether this is the first run.
            session=session,
            warn_if_busy=True,
            advance=lambda samples: progress.advance(task, samples),
        )
        rows = [
            replace(
                row,
                top1=top1[half and row.precision != FLOAT32].get(row.model),
            )
            if row.engine == OWN_ENGINE
            else row
            for row in comparison.rows
        ]
        comparison = replace(comparison, rows=rows)
        if json_path:
            json_path.write_text(json.dumps(asdict(comparison), indent=1) + "\n")
    return comparison


def _top1(
    args: argparse.Namespace, data: BatchData, options: Mapping[str, Any]
) -> dict[str, float]:
    """What each model classifies rightly, by its path."""
    from activsparse import Session
    from activsparse.pipeline.accuracy import top1_of

    sessions = {
        str(model): Session(
            model, threads=args.threads, input_shapes=input_shapes(args, model), **options
        )
        for model in [args.dense, *args.sparse]
    }
    return top1_of(sessions, data)


def heading(comparison: Comparison) -> str:
    """The machine, and in one line what the figures were computed with."""
    from activsparse.bench.compare import OWN_ENGINE
    from activsparse.bench.machine import summary_line

    own = next((row.isa for row in comparison.rows if row.engine == OWN_ENGINE), None)
    which = f"activsparse on {own}, others on what they choose here" if own else "as engines choose"
    threads = comparison.best_dense["threads"]
    return (
        f"{summary_line(comparison.machine)}; {threads} thread(s)\n"
        f"precision: {_precisions(comparison)}; instruction set: {which}"
    )


def table(comparison: Comparison) -> Table:
    """The figures as a table: one line per model and engine, ratios where our engine ran."""
    from rich.box import SIMPLE
    from rich.table import Table

    from activsparse.bench.compare import OWN_ENGINE, short_names

    ratios = {(ratio["model"], ratio["precision"]): ratio for ratio in comparison.ratios}
    names = short_names([row.model for row in comparison.rows])
    scored = ["top-1"] if any(row.top1 is not None for row in comparison.rows) else []
    result = Table(box=SIMPLE, padding=(0, 1, 0, 0))
    result.add_column("model", overflow="fold", max_width=36)
    result.add_column("engine", no_wrap=True)
    result.add_column("type", no_wrap=True)
    columns = ("p50", "±", "p90", "p99", "load", "peak", "x best", "x own", "rel err", *scored)
    for column in columns:
        result.add_column(column, justify="right", no_wrap=True)
    for row in comparison.rows:
        ratio = ratios.get((row.model, row.precision), {}) if row.engine == OWN_ENGINE else {}
        result.add_row(
            names[row.model],
            row.engine,
            row.precision,
            *(f"{ms:.3f}" for ms in (row.median_ms, row.mad_ms)),
            *("" if ms is None else f"{ms:.3f}" for ms in (row.p90_ms, row.p99_ms)),
            "" if row.load_ms is None else f"{row.load_ms:.0f}",
            "" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.1f}",
            *(_times(ratio, key) for key in ("vs_best_dense", "vs_own_dense")),
            "" if row.max_rel_err is None else f"{row.max_rel_err:.0e}",
            *("" if row.top1 is None else f"{100 * row.top1:.2f} %" for _ in scored),
        )
    return result


def legend(comparison: Comparison) -> str:
    """What the columns are, and the engines' versions."""
    best = comparison.best_dense["engine"]
    versions = {row.engine: row.version for row in comparison.rows}
    return (
        "Times in ms; load: until it can run (this engine compiles; a plan loads at once); peak: "
        "MiB that loading and the first run took, in an engine's first row with its own code; x "
        f"best: times as fast as {best} on the dense model, x own: as our own dense, medians over "
        "rounds ± median absolute deviation; rel err: largest difference to ONNX Runtime over an "
        "output's largest value; top-1 (with --run): on that run's held-out images.\n"
        + ", ".join(f"{engine} {version}" for engine, version in versions.items())
    )


def _precisions(comparison: Comparison) -> str:
    """The precisions of all rows; a quantised model may leave some of itself in float."""
    return " and ".join(dict.fromkeys(row.precision for row in comparison.rows))


def _times(ratio: Mapping[str, Any], key: str) -> str:
    """A ratio and its spread, and the other's precision where it is another one."""
    median, mad = ratio.get(key), ratio.get(f"{key}_mad")
    if median is None:
        return ""
    other = ratio[f"{key.removeprefix('vs_')}_precision"]
    label = "" if other == ratio["precision"] else f" ({other})"
    return f"{median:.2f} ± {mad:.2f}{label}"


def _engines(text: str) -> list[str]:
    names = list(engine_names(text))
    if not names:
        raise argparse.ArgumentTypeError("names no engine")
    return names
