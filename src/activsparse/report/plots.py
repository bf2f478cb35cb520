"""The figures, as fragments to be placed in HTML: SVG for plots, PNG for masks over images."""

from __future__ import annotations

import base64
import io
import re
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.image import imsave

from activsparse.bench.compare import OWN_ENGINE
from activsparse.report.content import Report, Variant

__all__ = ["PALETTE", "accuracy_against_latency", "latency_bars", "mask_image", "sparsity_bars"]

PALETTE = ("#8a94a6", "#e07a3f", "#2f9e8f", "#7c6fd0", "#c94f6d", "#b59a2c")
"""Variant colours, the dense network's first; of middle lightness, to be read on dark and light."""

_Scalar = TypeVar("_Scalar", bound=np.generic)

# Matplotlib knows no "colour of the surrounding text"; this placeholder becomes it in the SVG.
INK = "#010203"
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,  # a name may hold dollars
    "svg.hashsalt": "activsparse",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": INK,
    "grid.alpha": 0.12,
    "legend.frameon": False,
}


def _svg(figure: Figure) -> str:
    """The figure without background, prologue and metadata, in the colour of the text around it."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.05)
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r'\1 width="100%"', svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    return svg.replace(INK, "currentColor").replace("font: 10px 'sans-serif'", "font: 10px inherit")


def _colour(report: Report, variant: Variant) -> str:
    return PALETTE[report.variants.index(variant) % len(PALETTE)]


def accuracy_against_latency(report: Report) -> str:
    """Top-1 against our engine's median time; up and to the left is better."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 3.2))
        axes = figure.add_subplot()
        axes.grid()
        for place, variant in enumerate(report.variants):
            row = report.own_row(variant)
            axes.errorbar(
                row.median_ms,
                100 * variant.top1,
                xerr=row.mad_ms,
                fmt="o",
                markersize=9,
                color=_colour(report, variant),
            )
            axes.annotate(
                variant.name,
                (row.median_ms, 100 * variant.top1),
                xytext=(8, -14 if place % 2 else 8),  # neighbours often coincide
                textcoords="offset points",
            )
        axes.set_xlim(0, 1.25 * max(report.own_row(v).median_ms for v in report.variants))
        axes.margins(y=0.25)
        axes.set_xlabel("median time per image, ms")
        axes.set_ylabel("top-1, %")
        return _svg(figure)


def latency_bars(report: Report) -> str:
    """Median time of every variant on every engine, with its median absolute deviation."""
    engines = list(dict.fromkeys(row.engine for row in report.comparison.rows))
    engines.sort(key=lambda engine: engine != OWN_ENGINE)
    rows = {(row.engine, row.model): row for row in report.comparison.rows}
    height = 0.8 / len(report.variants)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.8, 0.8 + 0.27 * len(engines) * len(report.variants)))
        axes = figure.add_subplot()
        axes.grid(axis="x")
        for place, variant in enumerate(report.variants):
            # An engine that is wrong about one of the files is timed on the others alone.
            timed = [place for place, name in enumerate(engines) if (name, variant.model) in rows]
            own = [rows[engines[place], variant.model] for place in timed]
            bars = axes.barh(
                np.array(timed) + (place - (len(report.variants) - 1) / 2) * height,
                [row.median_ms for row in own],
                height * 0.9,
                xerr=[row.mad_ms for row in own],
                color=_colour(report, variant),
                error_kw={"ecolor": INK, "elinewidth": 0.8, "alpha": 0.6},
                label=variant.name,
            )
            axes.bar_label(bars, [f"{row.median_ms:.3g}" for row in own], padding=4, fontsize=8)
        axes.set_yticks(range(len(engines)), engines)
        axes.invert_yaxis()
        axes.margins(x=0.1)
        axes.tick_params(left=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("median time per image, ms")
        figure.legend(loc="lower center", bbox_to_anchor=(0.5, 0.9), ncols=len(report.variants))
        return _svg(figure)


def sparsity_bars(report: Report) -> str:
    """Work skipped per layer and variant, a cross where it is none.

    A line marks the share of positions the mask drops.
    """
    sparse = [variant for variant in report.variants if variant.layers]
    names = list(dict.fromkeys(layer.name for variant in sparse for layer in variant.layers))
    width = 0.8 / len(sparse)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(max(7.5, 0.5 * len(names)), 2.4))
        axes = figure.add_subplot()
        axes.grid(axis="y")
        for place, variant in enumerate(sparse):
            x = np.array([names.index(layer.name) for layer in variant.layers])
            x = x + (place - (len(sparse) - 1) / 2) * width
            achieved = [layer.achieved for layer in variant.layers]
            axes.bar(x, achieved, width * 0.9, color=_colour(report, variant), label=variant.name)
            # A layer of which nothing is skipped would be a gap, as if it were left out.
            zero = [position for position, share in zip(x, achieved, strict=True) if share < 0.005]
            axes.plot(zero, [0.0] * len(zero), "x", color=_colour(report, variant), clip_on=False)
            dropped = [layer.requested for layer in variant.layers]
            axes.hlines(dropped, x - width / 2, x + width / 2, color=INK, linewidth=1.2)
        axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
        axes.tick_params(bottom=False)
        axes.set_ylabel("share")
        figure.legend(loc="lower center", bbox_to_anchor=(0.5, 0.9), ncols=len(sparse))
        return _svg(figure)


def mask_image(
    image: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], pixels: int = 128
) -> str:
    """A mask over an image as a PNG data address: skipped positions tinted, computed ones clear.

    Args:
        image: (H, W) or (H, W, 3), float in [0, 1].
        mask: (OH, OW), True = computed; stretched over the image.
        pixels: the picture's height and width.
    """
    grey = image if image.ndim == 3 else np.repeat(image[..., None], 3, axis=2)
    picture = _stretch(grey, pixels)
    skipped = ~_stretch(mask, pixels)
    tint = np.array(to_rgb("#ff5a36"), np.float32)
    picture[skipped] = 0.25 * picture[skipped] + 0.75 * tint
    buffer = io.BytesIO()
    imsave(buffer, np.clip(picture, 0, 1), format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _stretch(array: npt.NDArray[_Scalar], pixels: int) -> npt.NDArray[_Scalar]:
    """Nearest-neighbour resize of the first two axes to (pixels, pixels); a copy."""
    rows = np.arange(pixels) * array.shape[0] // pixels
    columns = np.arange(pixels) * array.shape[1] // pixels
    stretched: npt.NDArray[_Scalar] = array[rows][:, columns]
    return stretched
