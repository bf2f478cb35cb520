"""The pictures of `activsparse plan`."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from activsparse.masks.mask_plan import MaskPlan

__all__ = ["draw_frontier", "draw_plan"]

COLOURS = {
    "dense": "#8a94a6",
    "band": "#c94f6d",
    "tiles": "#2f9e8f",
    "lattice": "#e07a3f",
    "random": "#7c6fd0",
}


def draw_plan(plan: MaskPlan, dense_ms: Mapping[str, float], path: Path, kind: str) -> None:
    """Layer by layer: time without and with masks, in the colour of the pattern, and loss.

    Args:
        plan: with estimated times and measured losses.
        dense_ms: estimated time of each layer without masks.
        path: is written.
        kind: of picture, see `report.sensitivity.picture_kind`.
    """
    names = list(plan.layers)
    layers = list(plan.layers.values())
    figure = Figure(figsize=(9.6, 1.6 + 0.24 * len(names)), layout="constrained")
    times, losses = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1))
    places = range(len(names))
    times.barh(places, [dense_ms[name] for name in names], 0.8, color="#dde1e7", label="dense")
    for pattern in dict.fromkeys(layer.exact.pattern for layer in layers):
        chosen = [at for at in places if layers[at].exact.pattern == pattern]
        times.barh(
            chosen,
            [layers[at].ms or 0.0 for at in chosen],
            0.5,
            color=COLOURS[pattern],
            label=pattern if pattern != "dense" else "stays dense",
        )
    for at, layer in enumerate(layers):
        if not layer.dense:
            text = f" {layer.exact}, {layer.fill}"
            times.annotate(text, (dense_ms[names[at]], at), va="center", fontsize=6)
    times.set_yticks(places, names, fontsize=7, parse_math=False)  # a name may hold dollars
    times.invert_yaxis()
    times.margins(x=0.3)
    times.set_xlabel("estimated ms")
    losses.barh(places, [layer.loss or 0.0 for layer in layers], 0.5, color="#c94f6d")
    losses.set_xlabel("measured loss")
    figure.legend(loc="outside upper center", ncols=5, frameon=False)
    if "speedup" in plan.notes:
        figure.suptitle(
            f"{plan.notes['speedup']} times as fast ({plan.notes.get('speedup_is', '')}), "
            f"loss {plan.notes.get('dense_loss', '?')} -> {plan.notes.get('loss', '?')}",
            fontsize=9,
        )
    _save(figure, path, kind)


def draw_frontier(
    points: Sequence[tuple[float, float]], dense_loss: float, path: Path, kind: str
) -> None:
    """Loss against speed-up.

    Args:
        points: (speed-up, loss) of each plan.
        dense_loss: without masks.
        path: is written.
        kind: of picture.
    """
    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    found = sorted([(1.0, dense_loss), *points])
    axes.plot([speed for speed, _ in found], [loss for _, loss in found], "o-", color="#2f9e8f")
    axes.set_xlabel("times as fast as dense")
    axes.set_ylabel("measured loss")
    axes.grid(alpha=0.2)
    _save(figure, path, kind)


def _save(figure: Figure, path: Path, kind: str) -> None:
    content = io.BytesIO()  # matplotlib stumbles over its own files where a disk is full
    figure.savefig(content, format=kind, dpi=150)
    path.write_bytes(content.getvalue())
