"""`activsparse explain`: say per layer what is skipped, how, and what it saves."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activsparse.cli.console import plain_console
from activsparse.cli.engine_options import add_engine_options, session_options
from activsparse.cli.numbers import repeats
from activsparse.engine.border import numpy_type

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from activsparse import Session
    from activsparse.engine.report import NodeReport

__all__ = ["add_parser", "run"]

_WIDTH = 100
"""Columns of what is piped: enough to read, and --json for programs."""


def add_parser(subparsers: Any) -> None:
    """Add the options of `activsparse explain`."""
    parser = subparsers.add_parser(
        "explain",
        help="say per layer what is skipped, how, and what it saves",
        description="List every operator of the compiled model: its algorithm and kernel, its "
        "multiply-adds and the time it takes; then of every mask the sparsity asked for, the one "
        "it has, the share of the algorithm's work it really saves, and why that is not more. 'Of "
        "direct' is the share of what a direct convolution without mask does: Winograd needs a "
        "fraction, mask or no mask.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX model or a plan")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    parser.add_argument(
        "--strict", action="store_true", help="exit status 1 if any mask saves no work"
    )
    parser.add_argument(
        "--repeat",
        type=repeats,
        default=20,
        metavar="R",
        help="runs to take the median time over (default: 20)",
    )
    parser.add_argument(
        "--candidates",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="list the algorithms each layer could run in, with the times they were chosen by; "
        "those that run the layer without its mask are always among them (default: yes)",
    )
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Profile the model and print the table; 1 with --strict where a mask is wasted."""
    from contextlib import nullcontext

    from activsparse import Session
    from activsparse.files import atomic_path
    from activsparse.overwrite import refuse_overwrite

    refuse_overwrite([args.model], [args.json])

    # The output is opened first: better to fail now than after the work.
    with atomic_path(args.json) if args.json else nullcontext() as json_path:
        session = Session(args.model, **session_options(args))
        rows = session.profile(args.repeat)
        if json_path is not None:
            _write_json(json_path, session, rows)
    console = plain_console()
    if not console.is_terminal:
        console.width = _WIDTH
    # What another engine runs comes first: it is what keeps a model from being a plan.
    _show(console, _table(session, sorted(rows, key=lambda row: row.algorithm != "onnxruntime")))
    if any(row.requested is not None for row in rows):
        _show(console, _masks(session, rows))
    _print_folded(console, _totals(session, rows))
    if converted := _converted(session):
        _print_folded(console, f"converted, as all is computed in float32: {converted}")
    if args.candidates and any(len(row.candidates) > 1 for row in rows):
        _show(console, _candidates(rows))
    elif args.candidates:
        _print_folded(console, "candidates: no layer had a choice of algorithms")
    wasted = [row.name for row in rows if row.wastes_mask]
    if wasted:
        text = f"masks that save nothing, see above: {', '.join(wasted)}"
        _print_folded(console, text)
    return 1 if args.strict and wasted else 0


def _print_folded(console: Console, text: str) -> None:
    """Print a text that is read, and may break between words."""
    console.print(text, soft_wrap=False)


def _show(console: Console, titled: tuple[str, Table]) -> None:
    """Print a table under its title, which may be wider than the table."""
    title, table = titled
    _print_folded(console, title)
    console.print(table)


def _grid() -> Table:
    from rich.table import Table

    return Table(box=None, padding=(0, 1, 0, 0))


def _table(session: Session, rows: list[NodeReport]) -> tuple[str, Table]:
    """What runs each operator, and how long."""
    kinds = list(dict.fromkeys(row.precision for row in rows))
    shares = ["share"] if session.threads > 1 else []
    types = ["type"] if len(kinds) > 1 else []
    about = "; share: the longest thread's work over the mean" if shares else ""
    table = _grid()
    title = (
        f"{session.isa}, {session.threads} thread(s), {' and '.join(kinds)}. MMAC: millions of "
        "multiply-adds done; of direct: their share of what a direct convolution without mask "
        f"does{about}"
    )
    for heading in ("layer", "runs as", "kernel", "result"):
        table.add_column(heading, overflow="fold")
    for heading in types:
        table.add_column(heading, no_wrap=True)
    for heading in ("MMAC", "of\ndirect", "KiB", *shares, "ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        _, _, kernel = row.kernel.partition(" ")  # the title names the instruction set
        table.add_row(
            row.name,
            row.algorithm if row.kind == "conv" else f"{row.kind} {row.algorithm}",
            kernel.removeprefix("int8 ").removeprefix("float16").strip(),
            "x".join(str(size) for size in row.shape),
            *(row.precision for _ in types),
            f"{row.macs / 1e6:.2f}" if row.macs else "",
            _share(row.macs / row.dense_macs) if row.dense_macs and row.macs else "",
            f"{(row.weight_bytes + row.index_bytes) / 1024:.1f}",
            *(f"{row.longest_share:.2f}" for _ in shares),
            "" if row.time_ms is None else _ms(row.time_ms),
        )
    return title, table


def _masks(session: Session, rows: list[NodeReport]) -> tuple[str, Table]:
    """What each mask leaves out, what that saves, and why not more."""
    from activsparse.engine.why import why_not_faster

    table = _grid()
    title = (
        "masks: sparsity is the share of the layer's output positions that are not computed, saved "
        "that of its algorithm's own multiply-adds"
    )
    table.add_column("layer", overflow="fold")
    for heading in ("asked", "sparsity", "saved"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("why it is not faster", overflow="fold")
    for row in rows:
        if row.requested is not None:
            shares = (_share(value) for value in (row.requested, row.sparsity, row.achieved))
            table.add_row(row.name, *shares, why_not_faster(row, session.isa))
    return title, table


def _candidates(rows: list[NodeReport]) -> tuple[str, Table]:
    from rich.text import Text

    table = _grid()
    title = (
        "candidates, ms by themselves with cold weights; * chosen, - not timed: estimated at more "
        "than twice the best, or nothing was measured"
    )
    for heading in ("layer", "candidates"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        if len(row.candidates) > 1:
            texts = [_candidate(name, ms, row.algorithm) for name, ms in row.candidates]
            table.add_row(row.name, Text(", ").join(texts))
    return title, table


def _candidate(name: str, ms: float | None, chosen: str) -> Text:
    from rich.text import Text

    text = f"{name}\u00a0{'-' if ms is None else _ms(ms)}"
    return Text(f"{text}*", "bold") if name == chosen else Text(text)


def _ms(value: float) -> str:
    """Three digits at least, for small operators take microseconds or less."""
    return f"{value:.3f}" if value >= 0.1 else f"{value:.2g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _converted(session: Session) -> str:
    """Inputs and outputs of other types than float32, in words."""
    values = {value.name: value.type for value in (*session.get_inputs(), *session.get_outputs())}
    types = {name: numpy_type(kind) or kind for name, kind in values.items()}
    return ", ".join(f"'{name}' ({kind})" for name, kind in types.items() if kind != "float32")


def _summary(session: Session, rows: list[NodeReport]) -> dict[str, Any]:
    from activsparse.engine.report import savings_of

    savings = savings_of(rows)
    return {
        "time_ms": sum(row.time_ms or 0.0 for row in rows),
        "macs": sum(row.macs for row in rows),
        "dense_macs": sum(row.dense_macs for row in rows),
        "sparsity": savings.sparsity,
        "saved": savings.saved,
        "weight_bytes": sum(row.weight_bytes for row in rows),
        "index_bytes": sum(row.index_bytes for row in rows),
        "arena_bytes": session.arena_bytes,
    }


def _totals(session: Session, rows: list[NodeReport]) -> str:
    from activsparse.engine.report import savings_of

    total = _summary(session, rows)
    masked = sum(row.requested is not None for row in rows)
    masks = (
        f"{masked} operators with masks, {savings_of(rows)}"
        if masked
        else "no masks: a dense model"
    )
    return (
        f"{masks}; "
        f"total {_ms(total['time_ms'])} ms, {total['macs'] / 1e6:.1f} MMAC done "
        f"(direct convolution without masks: {total['dense_macs'] / 1e6:.1f}); "
        f"weights {total['weight_bytes'] / 2**20:.2f} MiB, "
        f"index data {total['index_bytes'] / 2**20:.3f} MiB, "
        f"activations {total['arena_bytes'] / 2**20:.2f} MiB"
    )


def _write_json(path: Path, session: Session, rows: list[NodeReport]) -> None:
    import json
    from dataclasses import asdict

    from activsparse.engine.why import why_not_faster

    content = {
        "isa": session.isa,
        "threads": session.threads,
        "total": _summary(session, rows),
        "nodes": [
            {**asdict(row), "precision": row.precision, "why": why_not_faster(row, session.isa)}
            for row in rows
        ],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
