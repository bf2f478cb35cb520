"""Make the tables and the plot of a file that benchmarks/run.py wrote.

    python benchmarks/publish.py [benchmarks/results/MACHINE.csv]

Without a file it is this machine's; that of another one can be named.
README.md and docs/performance.md get their tables between the marks `<!-- speed:begin -->` and
`<!-- speed:end -->`, docs/speed.svg is drawn anew.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import results
from networks import NETWORKS, PATTERNS
from results import DENSE, Result
from targets import AGAINST_PEERS

from activsparse.bench.machine import describe_machine
from activsparse.files import atomic_path

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- speed:begin -->", "<!-- speed:end -->"
COLOURS = dict(zip(PATTERNS, ("#0b6e4f", "#d1495b", "#2e6f9e", "#8a8a8a"), strict=True))


def main() -> None:
    """Read the results, write the three files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("csv", nargs="?", type=Path, help="default: this machine's")
    parser.add_argument("--root", type=Path, default=ROOT, help="folder of README.md and docs")
    args = parser.parse_args()
    path = chosen(args.csv)
    rows = results.read(path)
    if not rows:
        raise SystemExit(f"{path}: holds no results; make bench writes them")
    replace(args.root / "README.md", headline(rows))
    replace(args.root / "docs/performance.md", details(rows))
    plot(rows, args.root / "docs/speed.svg")


def chosen(csv: Path | None) -> Path:
    """The file to publish: the one that was named, else this machine's."""
    if csv is not None:
        return csv
    path = results.file_of(describe_machine())
    if not path.exists():
        others = sorted(str(file) for file in results.FOLDER.glob("*-cores-*.csv"))
        raise SystemExit(
            f"{path}: this machine has no results yet; make bench writes them, or name those of "
            f"another one: {', '.join(others)}"
        )
    return path


def replace(path: Path, text: str) -> None:
    """Put `text` between the marks of a file."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"{path}: has no place for the table, {BEGIN} and {END}")
    with atomic_path(path) as temporary:
        temporary.write_text(f"{before}{BEGIN}\n{text.strip()}\n{END}{after}")


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A table whose first `left` columns are aligned left and the others right."""
    rule = ["---"] * left + ["---:"] * (len(head) - left)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, rule, *rows))


class Figures:
    """Results by what they are about."""

    def __init__(self, rows: Sequence[Result], threads: int) -> None:
        self.rows = [row for row in rows if row.threads == threads]
        self.models = [name for name in NETWORKS if any(row.model == name for row in self.rows)]
        self.own = {(r.model, r.pattern, r.requested): r for r in results.own(self.rows)}
        self.peers = {
            (row.model, row.engine): row for row in results.peers(self.rows) if row.pattern == DENSE
        }
        self.sparsities = sorted({key[2] for key in self.own} - {0.0})

    def fastest_peer(self, model: str) -> Result | None:
        """The fastest other engine on the dense network."""
        rows = [row for (name, _), row in self.peers.items() if name == model]
        return min(rows, key=lambda row: row.median_ms) if rows else None


def _patterns(model: str) -> list[str]:
    """The patterns that the first table shows: those there are targets for."""
    return [pattern for name, pattern in AGAINST_PEERS if name == model] or ["auto"]


def _times(result: Result | None) -> str:
    return "" if result is None else f"{result.vs_best_dense_peer:.2f}"


def _origin(rows: Sequence[Result]) -> str:
    versions = {row.engine: row.version for row in rows}
    named = ", ".join(f"{engine} {version}" for engine, version in versions.items())
    dates = sorted({row.date for row in rows})
    period = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return f"`make bench`, {period}. {named}."


def _machine(rows: Sequence[Result]) -> str:
    """The machine without what the process was held to: that differs between runs."""
    parts = rows[0].machine.split(", ")
    return ", ".join(part for part in parts if not part.startswith("pinned") and part != "1")


def headline(rows: Sequence[Result]) -> str:
    """The README's table: one thread, the patterns that suit each network."""
    figures = Figures(rows, 1)
    lines = []
    for model in figures.models:
        peer = figures.fastest_peer(model)
        for pattern in _patterns(model):
            sparse = [figures.own.get((model, pattern, s)) for s in figures.sparsities]
            if any(sparse):
                lines.append(
                    [
                        model,
                        f"{peer.engine}, {peer.median_ms:.2f} ms" if peer else "",
                        pattern,
                        _times(figures.own.get((model, DENSE, 0.0))),
                        *map(_times, sparse),
                    ]
                )
    head = ["network", "fastest other engine", "pattern", "dense"]
    head += [f"{sparsity:g}" for sparsity in figures.sparsities]
    return (
        f"Times as fast as the fastest other engine runs the dense network: float32, 224x224 "
        f"(yolov5n 640x640), batch 1, one thread, on {_machine(rows)}.\n\n"
        f"{markdown(head, lines, 3)}\n\n"
        "![Times as fast as the fastest other engine, by sparsity](docs/speed.svg)\n\n"
        f"{_origin(rows)} All figures: [docs/performance.md](docs/performance.md)."
    )


def details(rows: Sequence[Result]) -> str:
    """Everything, for docs/performance.md."""
    parts = [f"On {_machine(rows)}; {_origin(rows)} Times in ms ± median absolute deviation."]
    for threads in sorted({row.threads for row in rows}):
        figures = Figures(rows, threads)
        words = "1 thread" if threads == 1 else f"{threads} threads"
        parts += [f"### Dense networks, {words}", _dense_table(figures)]
        parts += [f"### Masked networks, {words}", _masked_table(figures)]
    return "\n\n".join(parts)


def _dense_table(figures: Figures) -> str:
    engines = list(dict.fromkeys(engine for _, engine in figures.peers))
    lines = []
    for model in figures.models:
        own = figures.own.get((model, DENSE, 0.0))
        cells = [own, *(figures.peers.get((model, engine)) for engine in engines)]
        times = [f"{row.median_ms:.2f} ± {row.mad_ms:.2f}" if row else "" for row in cells]
        lines.append([model, *times, _times(own)])
    return markdown(["network", "activsparse", *engines, "x fastest other"], lines)


def _masked_table(figures: Figures) -> str:
    lines = []
    for model in figures.models:
        for pattern in PATTERNS:
            found = [figures.own.get((model, pattern, s)) for s in figures.sparsities]
            if any(found):
                lines.append([model, pattern, *map(_masked_cell, found)])
    head = ["network", "pattern", *(f"{sparsity:g}" for sparsity in figures.sparsities)]
    note = (
        "Each cell: ms (times as fast as the fastest other engine on the dense network; as our own "
        "dense network; mean sparsity achieved, each layer counted once)."
    )
    return f"{note}\n\n{markdown(head, lines, 2)}"


def _masked_cell(row: Result | None) -> str:
    if row is None:
        return ""
    own = "" if row.vs_own_dense is None else f"{row.vs_own_dense:.2f}"
    return f"{row.median_ms:.2f} ({row.vs_best_dense_peer:.2f}; {own}; {row.achieved:.2f})"


def plot(rows: Sequence[Result], path: Path) -> None:
    """One panel per network: speed against achieved sparsity, one line per pattern."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    # The same figures make the same file.
    mpl.rcParams["svg.hashsalt"] = "activsparse"
    figures = Figures(rows, 1)
    columns = min(3, len(figures.models))
    lines = -(-len(figures.models) // columns)
    figure = Figure(figsize=(3.2 * columns, 2.7 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False)
    for panel in panels.flat[len(figures.models) :]:
        panel.remove()
    for panel, model in zip(panels.flat, figures.models, strict=False):
        dense = figures.own.get((model, DENSE, 0.0))
        for pattern in PATTERNS:
            points = [figures.own.get((model, pattern, s)) for s in figures.sparsities]
            shown = [point for point in (dense, *points) if point is not None]
            if len(shown) > (dense is not None):
                panel.plot(
                    [point.achieved for point in shown],
                    [point.vs_best_dense_peer for point in shown],
                    *("o-",),
                    color=COLOURS[pattern],
                    label=pattern,
                    markersize=3.5,
                    linewidth=1.4,
                )
        peer = figures.fastest_peer(model)
        panel.axhline(1, color="black", linewidth=0.8, linestyle=":")
        panel.set_title(f"{model} ({peer.engine} = 1)" if peer else model, fontsize=9)
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.25)
        panel.tick_params(labelsize=8)
    panels[0][0].legend(fontsize=8, frameon=False)
    figure.supxlabel("mean sparsity of the masked layers, each counted once", fontsize=9)
    figure.supylabel("times as fast as the fastest other engine, dense", fontsize=9)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
