"""The planes and tables of docs/evidence.md, from plane.csv alone."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from matplotlib.figure import Figure
from study import fill_in

from activsparse.files import atomic_path
from activsparse.pipeline.score import interval_of_counts

DOCS = Path(__file__).parents[1] / "docs"
CSV = "plane.csv"
# Kind of row: its name in the legend, colour, sign.
KINDS = {
    "dense": ("dense", "#8a94a6", "o"),
    "ours": ("masks, planned", "#2f9e8f", "*"),
    "ours_smaller": ("masks and smaller input, planned", "#c2548a", "P"),
    "channels_and_masks": ("fewer channels and masks", "#7fb52f", "p"),
    "smaller_input": ("smaller input", "#b59a2c", "s"),
    "channels": ("fewer channels", "#7c6fd0", "D"),
    "paper": ("published procedure", "#e07a3f", "v"),
    "ablation": ("ablation", "#4f9dc9", "^"),
}
CURVES = ("ours", "ours_smaller", "smaller_input", "channels")

Line = dict[str, str]


def plot(results: Path) -> None:
    """Draw docs/plane-NETWORK.png and write the tables of docs/evidence.md."""
    with (results / CSV).open(newline="") as file:
        lines = list(csv.DictReader(file))
    for network in dict.fromkeys(line["network"] for line in lines):
        own = [line for line in lines if line["network"] == network]
        table = "\n".join(_table(own))
        print(table)
        fill_in(DOCS / "evidence.md", f"plane {network}", table)
        _draw(own, DOCS / f"plane-{network}.png")


def by_row(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """The lines of each row, all seeds."""
    found: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        found[line["row"]].append(line)
    return found


def kind_of(own: Sequence[Line]) -> str:
    """The kind of a row; of plans, those that may shrink the input are a kind of their own."""
    shrinks = own[0]["row"].endswith(" smaller")
    return "ours_smaller" if shrinks else own[0]["kind"]


def baseline(name: str) -> str:
    """The dense row that was trained as long."""
    return "dense longer" if _is_longer(name) and name != "dense longer" else "dense"


def losses(rows: dict[str, list[Line]], name: str) -> list[float]:
    """By seed, how many points a row is below the dense one with the same seed."""
    dense = {line["seed"]: float(line["top1"]) for line in rows[baseline(name)]}
    return [
        dense[line["seed"]] - float(line["top1"]) for line in rows[name] if line["seed"] in dense
    ]


def mean_of(lines: Sequence[Line], key: str) -> float:
    """The mean of a column, all seeds."""
    return mean(float(line[key]) for line in lines)


def _interval(lines: Sequence[Line], kept: str = "") -> str:
    """What a row loses by chance of images: paired, all seeds together.

    Args:
        lines: of the row.
        kept: `half_` of the network with weights in float16.
    """
    only_dense, only_row, images = (
        sum(int(line[key]) for line in lines)
        for key in (f"{kept}only_dense", f"{kept}only_row", "images")
    )
    if not only_dense + only_row:
        return "–"
    low, high = interval_of_counts(only_dense, only_row, images)
    return f"{100 * low:.2f} to {100 * high:.2f}"


def _times(lines: Sequence[Line], what: str, ms: str = "ms") -> float:
    """How many times as fast as the dense network in the same run of the timer, all seeds."""
    return mean(float(line[what]) / float(line[ms]) for line in lines)


def _half_table(lines: Sequence[Line]) -> list[str]:
    """The same networks with weights kept in float16, as far as they were timed so."""
    found = [
        "| row, weights in float16 | ms | times dense | times ONNX Runtime's dense "
        "| lost | 95 % | seeds |",
        "|---|---|---|---|---|---|---|",
    ]
    rows = by_row([line for line in lines if line["half_ms"]])
    for name, own in sorted(rows.items(), key=lambda item: -mean_of(item[1], "half_ms")):
        lost = mean_of(own, "half_only_dense") - mean_of(own, "half_only_row")
        cells = (
            name,
            f"{mean_of(own, 'half_ms'):.3f}",
            f"{_times(own, 'dense_ms', 'half_ms'):.2f}",
            f"{_times(own, 'dense_ort_ms', 'half_ms'):.2f}",
            f"{100 * lost / mean_of(own, 'images'):.2f}",
            _interval(own, "half_"),
            len(own),
        )
        found.append(f"| {' | '.join(map(str, cells))} |")
    return ["", *found] if rows else []


def _is_longer(name: str) -> bool:
    return name.endswith(" longer")


def _table(lines: Sequence[Line]) -> list[str]:
    rows = by_row(lines)
    as_long = {name: own for name, own in rows.items() if not _is_longer(name)}
    longer = {name: own for name, own in rows.items() if _is_longer(name)}
    found = _rows_table(rows, as_long)
    found += _half_table([line for own in as_long.values() for line in own])
    if longer:
        found += ["", *_rows_table(rows, longer)]
    machines = ", ".join(dict.fromkeys(line["machine"] for line in lines))
    return [*found, "", f"Timed on {machines}."]


def _rows_table(rows: dict[str, list[Line]], shown: dict[str, list[Line]]) -> list[str]:
    found = [
        "| row | kind | ms | times dense | times ONNX Runtime's dense "
        "| top-1 | lost | 95 % | seeds |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, own in sorted(shown.items(), key=lambda item: _times(item[1], "dense_ms")):
        lost = losses(rows, name)
        spread = f" ± {stdev(lost):.2f}" if len(lost) > 1 and name != "dense" else ""
        cells = (
            name,
            KINDS[kind_of(own)][0],
            f"{mean_of(own, 'ms'):.3f}",
            f"{_times(own, 'dense_ms'):.2f}",
            f"{_times(own, 'dense_ort_ms'):.2f}",
            f"{mean_of(own, 'top1'):.2f}",
            f"{mean(lost):.2f}{spread}",
            _interval(own),
            len(own),
        )
        found.append(f"| {' | '.join(map(str, cells))} |")
    return found


def _draw(lines: Sequence[Line], path: Path) -> None:
    rows = by_row([line for line in lines if not _is_longer(line["row"])])
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for kind, (label, colour, sign) in KINDS.items():
        points = sorted(
            (
                _times(own, "dense_ms"),
                mean_of(own, "top1"),
                [float(line["top1"]) for line in own],
            )
            for own in rows.values()
            if kind_of(own) == kind
        )
        if not points:
            continue
        if kind in CURVES:
            dense = [(1.0, mean_of(rows["dense"], "top1"), [])]
            whole = [*dense, *points]
            axes.plot([p[0] for p in whole], [p[1] for p in whole], color=colour, lw=1, alpha=0.5)
        axes.plot(
            [p[0] for p in points], [p[1] for p in points], sign, color=colour, label=label, ms=8
        )
        for speed, _, each in points:
            axes.plot([speed] * len(each), each, ".", color=colour, alpha=0.4, ms=4)
    axes.set_xlabel("times as fast as the dense network, measured in this engine")
    axes.set_ylabel("top-1, %")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with atomic_path(path) as file:
        figure.savefig(file, format="png", dpi=110)
