"""The study's plot and table, from its CSV files alone."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure
from study import fill_in

from activsparse.files import atomic_path

DOCS = Path(__file__).parents[1] / "docs"
LATENCY = "fashion_mnist_latency.csv"
# Name, colour and sign of each family of rows: the first word of a row's name.
FAMILIES = {
    "dense": ("dense", "#8a94a6", "o"),
    "input": ("smaller input", "#b59a2c", "s"),
    "channels": ("channel pruning", "#7c6fd0", "D"),
    "paper": ("published procedure", "#e07a3f", "v"),
    "tiles": ("tiles", "#c94f6d", "P"),
    "lattice": ("lattice", "#4f9dc9", "^"),
    "auto": ("auto", "#333333", "X"),
    "best": ("fashion_mnist_best", "#2f9e8f", "*"),
    "fast": ("best, for a speed-up", "#7fb52f", "p"),
}
# Rows that only explain others, and so are in the table alone.
EXPLAIN = ("distilled", "searched", "auto fill")
# What hollow signs of a family say.
HOLLOW = {"channels": " and best 0.3", "tiles": ", nearest", "lattice": ", nearest"}
# What the bars are about: (masks of the paper, smaller input, best), at equal cost.
BARS = {"0.3": ("paper 0.3", "input 23", "best 0.3"), "0.5": ("paper 0.5", "input 20", "best 0.5")}


def plot(results: Path) -> None:
    """Draw docs/fashion_mnist.png and write the table of docs/search.md."""
    runs: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in _read(results / "fashion_mnist.csv"):
        runs[row["row"]].append(row)
    times = {row["row"]: float(row["median_ms"]) for row in _read(results / LATENCY)}
    text = "\n".join([_table(runs, times), "", *_bars(runs), ""])
    print(text)
    fill_in(DOCS / "search.md", "study", text)
    _draw(runs, times)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.is_file():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _top1(rows: list[dict[str, Any]]) -> list[float]:
    return [100 * float(row["top1"]) for row in rows]


def _table(runs: dict[str, list[dict[str, Any]]], times: dict[str, float]) -> str:
    lines = [
        "| row | multiply-adds | ms | top-1 | lost against dense | seeds |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, rows in runs.items():
        top1 = _top1(rows)
        spread = f" ± {stdev(top1):.2f}" if len(top1) > 1 else ""
        lost = _lost(runs, name)
        time = f"{times[name]:.3f}" if name in times else "–"
        lines.append(
            f"| {name} | {float(rows[0]['macs']):.2f} | {time} | {mean(top1):.2f}{spread} | "
            f"{'–' if lost is None or name in ('base', 'dense') else f'{lost:.2f}'} | {len(rows)} |"
        )
    return "\n".join(lines)


def _lost(runs: dict[str, list[dict[str, Any]]], name: str) -> float | None:
    """Points below dense, the mean over the seeds both have: each seed has its own base."""
    dense = {row["seed"]: float(row["top1"]) for row in runs.get("dense", [])}
    pairs = [dense[r["seed"]] - float(r["top1"]) for r in runs.get(name, []) if r["seed"] in dense]
    return 100 * mean(pairs) if pairs else None


def _bars(runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = []
    for at, names in BARS.items():
        paper, smaller, best = (_lost(runs, name) for name in names)
        if paper is None or smaller is None or best is None:
            lines.append(f"- At {at}: not all rows are trained yet")
            continue
        met = best <= paper / 4 and best <= smaller / 2
        lines.append(
            f"- At {at}: `best` loses {best:.2f}; a quarter of the paper's is {paper / 4:.2f}, "
            f"half of the smaller input's {smaller / 2:.2f}: {'met' if met else 'missed'}"
        )
    return lines


def _draw(runs: dict[str, list[dict[str, Any]]], times: dict[str, float]) -> None:
    cost = {name: float(rows[0]["macs"]) for name, rows in runs.items()}
    panels = [("share of the dense network's multiply-adds", cost)]
    if times:
        panels.append(("ms in the engine: one image, one thread", times))
    figure = Figure(figsize=(5.6 * len(panels), 5.4), layout="constrained")
    for axes, (label, where) in zip(
        figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels, strict=True
    ):
        axes.grid(alpha=0.2)
        axes.margins(x=0.08)
        axes.set_xlabel(label)
        shown = [n for n in runs if n in where and not n.endswith(EXPLAIN)]
        for family, (title, colour, marker) in FAMILIES.items():
            of_family = [n for n in shown if n.split()[0].rstrip(",") == family]
            for names, hollow in (
                ([n for n in of_family if not _is_hollow(n)], False),
                ([n for n in of_family if _is_hollow(n)], True),
            ):
                if not names:
                    continue
                names.sort(key=lambda name: cost[name])
                xs, points = [where[n] for n in names], [_top1(runs[n]) for n in names]
                ys = [mean(top1) for top1 in points]
                axes.errorbar(
                    xs,
                    ys,
                    yerr=[
                        [y - min(top1) for y, top1 in zip(ys, points, strict=True)],
                        [max(top1) - y for y, top1 in zip(ys, points, strict=True)],
                    ],
                    fmt=marker,
                    linestyle=":" if hollow else "-",
                    linewidth=1,
                    color=colour,
                    markerfacecolor="white" if hollow else colour,
                    markersize=13 if marker == "*" else 7,
                    label=title + (HOLLOW.get(family, "") if hollow else ""),
                )
                for name, x, y in zip(names, xs, ys, strict=True):
                    if family != "dense":
                        axes.annotate(
                            _number(name),
                            (x, y),
                            xytext=(-6, 4) if hollow else (7, 4 if marker == "*" else -9),
                            ha="right" if hollow else "left",
                            textcoords="offset points",
                            fontsize=7,
                            color=colour,
                        )
    figure.axes[0].set_ylabel("top-1 on Fashion-MNIST, %")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    with atomic_path(DOCS / "fashion_mnist.png") as path:
        figure.savefig(path, format="png", dpi=130)


def _is_hollow(name: str) -> bool:
    return "nearest" in name or ", " in name


def _number(name: str) -> str:
    """The sparsity, side in pixels, ratio or speed-up in a row's name."""
    number = name.split()[1].rstrip(",")
    return {"input": f"{number} px", "fast": f"{number}x"}.get(name.split()[0], number)
