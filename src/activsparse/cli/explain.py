"""`activsparse explain`: say per layer what is skipped, how, and what it saves."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activsparse.cli.console import wide_console
from activsparse.cli.engine_options import add_engine_options, session_options
from activsparse.cli.numbers import repeats

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from activsparse import Session
    from activsparse.engine.report import NodeReport

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the options of `activsparse explain`."""
    parser = subparsers.add_parser(
        "explain",
        help="say per layer what is skipped, how, and what it saves",
        description="List every operator of the compiled model: its algorithm and kernel, the "
        "sparsity its mask asks for, the share of the algorithm's work it really saves, and the "
        "time it takes. MMAC are the millions of multiply-adds done, 'of direct' their share of "
        "what a direct convolution without mask does: Winograd needs a fraction, mask or no mask.",
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
    console = wide_console()
    # What another engine runs comes first: it is what keeps a model from being a plan.
    console.print(_table(session, sorted(rows, key=lambda row: row.algorithm != "onnxruntime")))
    console.print(_totals(session, rows))
    if args.candidates:
        console.print(_candidates(rows))
    wasted = [row for row in rows if row.wastes_mask]
    for row in wasted:
        console.print(f"mask of '{row.name}' saves nothing: {row.reason}")
    return 1 if args.strict and wasted else 0


def _table(session: Session, rows: list[NodeReport]) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=f"{session.isa}, {session.threads} thread(s)", title_justify="left", box=None
    )
    for heading in ("layer", "operator", "result", "algorithm", "kernel"):
        table.add_column(heading, overflow="fold")
    shares = ["longest share"] if session.threads > 1 else []
    for heading in ("requested", "work saved", "MMAC", "of direct", "KiB", *shares, "ms"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("skipping", overflow="fold")
    for row in rows:
        table.add_row(
            row.name,
            row.kind,
            "x".join(str(size) for size in row.shape),
            row.algorithm,
            row.kernel,
            _share(row.requested),
            _share(row.achieved),
            f"{row.macs / 1e6:.2f}" if row.macs else "",
            _share(row.macs / row.dense_macs) if row.dense_macs and row.macs else "",
            f"{(row.weight_bytes + row.index_bytes) / 1024:.1f}",
            *(f"{row.longest_share:.2f}" for _ in shares),
            "" if row.time_ms is None else _ms(row.time_ms),
            Text("yes", "green") if row.eligible else row.reason,
        )
    return table


def _candidates(rows: list[NodeReport]) -> Table:
    from rich.table import Table

    table = Table(
        title="candidates, ms by themselves with cold weights; * chosen, - not timed: estimated "
        "at more than twice the best, or nothing was measured",
        title_justify="left",
        box=None,
    )
    rows = [row for row in rows if len(row.candidates) > 1]
    names = list(dict.fromkeys(name for row in rows for name, _ in row.candidates))
    for heading in ("layer", "result"):
        table.add_column(heading, overflow="fold")
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows:
        times = dict(row.candidates)
        cells = [_candidate(times, name, row.algorithm) for name in names]
        table.add_row(row.name, "x".join(str(size) for size in row.shape), *cells)
    return table


def _candidate(times: dict[str, float | None], name: str, chosen: str) -> Text:
    from rich.text import Text

    if name not in times:
        return Text()
    ms = times[name]
    text = "-" if ms is None else _ms(ms)
    return Text(f"{text}*", "bold") if name == chosen else Text(text)


def _ms(value: float) -> str:
    """Three digits at least, for small operators take microseconds or less."""
    return f"{value:.3f}" if value >= 0.1 else f"{value:.2g}"


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _summary(session: Session, rows: list[NodeReport]) -> dict[str, Any]:
    return {
        "time_ms": sum(row.time_ms or 0.0 for row in rows),
        "macs": sum(row.macs for row in rows),
        "dense_macs": sum(row.dense_macs for row in rows),
        "weight_bytes": sum(row.weight_bytes for row in rows),
        "index_bytes": sum(row.index_bytes for row in rows),
        "arena_bytes": session.arena_bytes,
    }


def _totals(session: Session, rows: list[NodeReport]) -> str:
    total = _summary(session, rows)
    masked = sum(row.requested is not None for row in rows)
    return (
        f"{f'{masked} operators with masks' if masked else 'no masks: a dense model'}; "
        f"total {_ms(total['time_ms'])} ms, {total['macs'] / 1e6:.1f} MMAC done "
        f"(direct convolution without masks: {total['dense_macs'] / 1e6:.1f}); "
        f"weights {total['weight_bytes'] / 2**20:.2f} MiB, "
        f"index data {total['index_bytes'] / 2**20:.3f} MiB, "
        f"activations {total['arena_bytes'] / 2**20:.2f} MiB"
    )


def _write_json(path: Path, session: Session, rows: list[NodeReport]) -> None:
    import json
    from dataclasses import asdict

    content = {
        "isa": session.isa,
        "threads": session.threads,
        "total": _summary(session, rows),
        "nodes": [asdict(row) for row in rows],
    }
    path.write_text(json.dumps(content, indent=2) + "\n")
