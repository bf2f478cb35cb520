"""The plot of `activsparse sensitivity`."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from matplotlib import colormaps
from matplotlib.figure import Figure

from activsparse.errors import ActivsparseError

if TYPE_CHECKING:
    from activsparse.train.plan.sensitivity import Sensitivity

__all__ = ["draw_sensitivity", "picture_kind"]


def picture_kind(path: Path) -> str:
    """What `path` is to hold: png, svg, pdf, ...

    Raises:
        ActivsparseError: nothing that can be drawn.
    """
    kind = path.suffix.removeprefix(".")
    if kind not in Figure().canvas.get_supported_filetypes():
        raise ActivsparseError(f"{path}: no such kind of picture; name a .png, .svg or .pdf")
    return kind


def draw_sensitivity(found: Sequence[Sensitivity], path: Path, kind: str) -> None:
    """One group of bars per layer, one bar per sparsity: how much the loss grows.

    Args:
        found: what was measured.
        path: is written.
        kind: of picture, see `picture_kind`.
    """
    layers = list(dict.fromkeys(row.layer for row in found))
    sparsities = sorted({row.requested for row in found})
    figure = Figure(figsize=(6.4, 1.2 + 0.3 * len(layers)), layout="constrained")
    axes = figure.add_subplot()
    height = 0.8 / len(sparsities)
    colours = colormaps["viridis"].resampled(len(sparsities) + 1)
    for at, sparsity in enumerate(sparsities):
        increase = {row.layer: row.loss_increase for row in found if row.requested == sparsity}
        axes.barh(
            [place + at * height for place in range(len(layers))],
            [increase.get(layer, 0.0) for layer in layers],
            height,
            align="edge",
            color=colours(at),
            label=f"sparsity {sparsity:g}",
        )
    places = [place + 0.4 for place in range(len(layers))]
    axes.set_yticks(places, layers, fontsize=8, parse_math=False)  # a name may hold dollars
    axes.invert_yaxis()
    axes.set_xlabel("loss above the dense network's, this layer alone masked")
    axes.legend(frameon=False)
    content = io.BytesIO()  # matplotlib stumbles over its own files where a disk is full
    figure.savefig(content, format=kind, dpi=150)
    path.write_bytes(content.getvalue())
