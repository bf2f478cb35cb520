"""The interactive figures, as data for plotly's JavaScript: traces and a layout each.

Colours of text and lines follow the page, which is light or dark; report.html.j2 adds them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt

from activsparse.bench.compare import OWN_ENGINE
from activsparse.masks.mask_plan import MaskPlan
from activsparse.report.content import Report, Variant

__all__ = ["PALETTE", "Figure", "figures_of"]

PALETTE = ("#8a94a6", "#e07a3f", "#2f9e8f", "#7c6fd0", "#c94f6d", "#b59a2c")
"""Variant colours, the dense network's first; of middle lightness, to be read on dark and light."""

Figure = dict[str, Any]
Classes = npt.NDArray[np.int64]


def figures_of(report: Report) -> dict[str, Figure]:
    """Every figure there are numbers for, by the element it is drawn into."""
    found: dict[str, Figure] = {"accuracy": _accuracy(report), "engines": _engines(report)}
    if any(variant.times_ms for variant in report.variants):
        found["layer-times"] = _layer_times(report)
    if any(variant.layers for variant in report.variants):
        found["sparsity"] = _sparsity(report)
    for at, variant in enumerate(report.variants):
        if variant.plan is not None:
            found[f"plan-{at}"] = _plan(variant.plan)
        if variant.said is not None and report.labels is not None:
            found[f"confusion-{at}"] = _confusion(report, variant, variant.said, report.labels)
    if report.losses:
        found["losses"] = _losses(report)
    return found


def _colour(report: Report, variant: Variant) -> str:
    return PALETTE[report.variants.index(variant) % len(PALETTE)]


def _figure(
    traces: Sequence[Mapping[str, Any]], x: str = "", y: str = "", height: int = 340, **layout: Any
) -> Figure:
    axes = {
        "xaxis": {"title": {"text": x}, "automargin": True, "zeroline": False},
        "yaxis": {"title": {"text": y}, "automargin": True, "zeroline": False},
    }
    for name in axes:
        axes[name] |= layout.pop(name, {})
    return {
        "data": list(traces),
        "layout": {
            "height": height,
            "margin": {"l": 10, "r": 10, "t": 10, "b": 10},
            "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
            **axes,
            **layout,
        },
    }


def _accuracy(report: Report) -> Figure:
    """Top-1 against our engine's median time, with its median absolute deviation."""
    traces = []
    for variant in report.variants:
        row = report.own_row(variant)
        skipped = f"<br>sparsity {variant.savings.sparsity:.1%}" if variant.layers else ""
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": escape(variant.name),
                "x": [row.median_ms],
                "y": [100 * variant.top1],
                "error_x": {"type": "data", "array": [row.mad_ms]},
                "marker": {"size": 13, "color": _colour(report, variant)},
                "hovertemplate": f"%{{y:.2f}} % in %{{x:.4g}} ms{skipped}",
            }
        )
    return _figure(traces, "median time per image, ms", "top-1, %", xaxis={"rangemode": "tozero"})


def _engines(report: Report) -> Figure:
    """Median time of every variant on every engine."""
    names = list(dict.fromkeys(row.engine for row in report.comparison.rows))
    names.sort(key=lambda name: name != OWN_ENGINE)
    rows = {(row.engine, row.model): row for row in report.comparison.rows}
    traces = []
    for variant in report.variants:
        # An engine that is wrong about one of the files is timed on the others alone.
        timed = [name for name in names if (name, variant.model) in rows]
        own = [rows[name, variant.model] for name in timed]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": escape(variant.name),
                "y": timed,
                "x": [row.median_ms for row in own],
                "error_x": {"type": "data", "array": [row.mad_ms for row in own], "thickness": 1},
                "text": [f"{row.median_ms:.3g}" for row in own],
                "textposition": "auto",
                "marker": {"color": _colour(report, variant)},
            }
        )
    height = 110 + 26 * len(names) * len(report.variants)
    return _figure(
        traces, "median time per image, ms", height=height, yaxis={"autorange": "reversed"}
    )


def _layer_times(report: Report) -> Figure:
    """What each layer takes in every variant."""
    names = list(dict.fromkeys(name for variant in report.variants for name in variant.times_ms))
    traces = [
        {
            "type": "bar",
            "orientation": "h",
            "name": escape(variant.name),
            "y": [escape(name) for name in variant.times_ms],
            "x": list(variant.times_ms.values()),
            "marker": {"color": _colour(report, variant)},
            "hovertemplate": "%{y}: %{x:.4f} ms",
        }
        for variant in report.variants
        if variant.times_ms
    ]
    order = {"autorange": "reversed", "categoryarray": [escape(name) for name in names]}
    height = 110 + max(16 * len(names), 9 * len(names) * len(traces))
    return _figure(traces, "ms", height=height, yaxis=order | _all_ticks())


def _all_ticks() -> dict[str, Any]:
    return {"dtick": 1, "tickfont": {"size": 10}}


def _sparsity(report: Report) -> Figure:
    """Work skipped per layer and variant, and a mark where the mask's share of positions is."""
    traces = []
    for variant in report.variants:
        if not variant.layers:
            continue
        names = [escape(layer.name) for layer in variant.layers]
        colour = _colour(report, variant)
        group = {"legendgroup": variant.name, "offsetgroup": variant.name}
        traces.append(
            {
                "type": "bar",
                "name": escape(variant.name),
                "y": [100 * layer.achieved for layer in variant.layers],
                "x": names,
                "marker": {"color": colour},
                "text": [escape(layer.reason) for layer in variant.layers],
                "textposition": "none",
                "hovertemplate": "%{x}: %{y:.1f} % of the engine's work saved<br>%{text}",
                **group,
            }
        )
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": escape(f"{variant.name}: sparsity"),
                "y": [100 * layer.sparsity for layer in variant.layers],
                "x": names,
                "marker": {"symbol": "line-ew-open", "size": 14, "color": colour},
                "hovertemplate": "%{x}: %{y:.1f} % of positions not computed",
                **group,
            }
        )
    return _figure(
        traces,
        "",
        "%",
        scattermode="group",
        xaxis={"tickangle": -45, "dtick": 1, "tickfont": {"size": 10}},
    )


def _plan(plan: MaskPlan) -> Figure:
    """The share each layer skips by the plan, in its pattern's colour, and what it loses by it."""
    shares, layers = plan.sparsities(), plan.layers
    traces = []
    patterns = list(dict.fromkeys(layer.exact.pattern for layer in layers.values()))
    for at, pattern in enumerate(patterns):
        own = [name for name, layer in layers.items() if layer.exact.pattern == pattern]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": pattern if pattern != "dense" else "stays dense",
                "y": [escape(name) for name in own],
                "x": [100 * shares.get(name, 0.0) for name in own],
                "text": [
                    escape(f"{layers[name].exact}, loss {layers[name].loss or 0.0:+.4f}")
                    for name in own
                ],
                "textposition": "none",
                "hovertemplate": "%{y}: %{x:.1f} % of positions<br>%{text}",
                "marker": {"color": PALETTE[at % len(PALETTE)]},
            }
        )
    order = {"autorange": "reversed", "categoryarray": [escape(name) for name in layers]}
    return _figure(
        traces,
        "positions skipped, %",
        height=110 + 16 * len(layers),
        yaxis=order | _all_ticks(),
        barmode="stack",
    )


def _losses(report: Report) -> Figure:
    """What each layer loses alone, one colour per sparsity."""
    shares = sorted({loss.requested for loss in report.losses})
    names = list(dict.fromkeys(loss.layer for loss in report.losses))
    traces = []
    for at, share in enumerate(shares):
        own = [loss for loss in report.losses if loss.requested == share]
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": f"{share:g}",
                "y": [escape(loss.layer) for loss in own],
                "x": [loss.increase for loss in own],
                "marker": {"color": PALETTE[at % len(PALETTE)]},
                "hovertemplate": "%{y}: %{x:+.4f}",
            }
        )
    order = {"autorange": "reversed", "categoryarray": [escape(name) for name in names]}
    height = 110 + max(16 * len(names), 9 * len(names) * len(shares))
    return _figure(
        traces, "loss above the dense network's", height=height, yaxis=order | _all_ticks()
    )


def _confusion(report: Report, variant: Variant, said: Classes, labels: Classes) -> Figure:
    """How often each class (rows) is said to be which (columns)."""
    count = 1 + int(max(labels.max(), said.max()))
    table = np.zeros((count, count), int)
    np.add.at(table, (labels, said), 1)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    names = [escape(report.class_name(at)) for at in range(count)]
    trace = {
        "type": "heatmap",
        "x": names,
        "y": names,
        "z": share.round(4).tolist(),
        "customdata": table.tolist(),
        "zmin": 0,
        "zmax": 1,
        "colorscale": [[0, "rgba(138,148,166,0.12)"], [1, _colour(report, variant)]],
        "showscale": False,
        "hovertemplate": "%{y} said to be %{x}: %{customdata} (%{z:.1%})<extra></extra>",
    }
    if count <= 12:
        trace["texttemplate"] = "%{customdata}"
    axis = {"type": "category"}
    return _figure(
        [trace],
        f"what {escape(variant.name)} says",
        "class",
        height=380,
        xaxis=axis,
        yaxis=axis | {"autorange": "reversed"},
    )
