"""Draws docs/im2col.png, the picture of a masked convolution as a matrix product.

python docs/draw_im2col.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from draw_masks import KEPT, SKIPPED, TEXT
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

WINDOW, PLAIN = "#5b7fd1", "#a9b1bd"
OUTPUT = 4  # positions along each side; a 3x3 kernel sees an image of two more
SKIPPED_POSITIONS = {(0, 2), (1, 0), (2, 2), (3, 0), (3, 3)}
SHOWN = (1, 1)  # the position whose window is drawn in


def main() -> None:
    """Draw image, matrix of windows, weights and result from left to right."""
    figure = Figure(figsize=(13, 5.2))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, 52), ylim=(20.8, 0), aspect="equal")
    axes.set_axis_off()
    positions = list(np.ndindex(OUTPUT, OUTPUT))
    colours = [SKIPPED if p in SKIPPED_POSITIONS else KEPT for p in positions]
    shown = positions.index(SHOWN)

    squares(axes, 1, 6, [[PLAIN] * 6] * 6)
    axes.add_patch(
        Rectangle((1 + SHOWN[1], 6 + SHOWN[0]), 3, 3, fill=False, edgecolor=WINDOW, linewidth=3)
    )
    title(axes, 4, 4.6, "image, all channels")

    squares(axes, 13, 3, [[colour] * 9 for colour in colours])
    axes.add_patch(Rectangle((13, 3 + shown), 9, 1, fill=False, edgecolor=WINDOW, linewidth=3))
    title(axes, 17.5, 1.9, "a row per output position: its window")
    axes.annotate(
        "",
        (12.8, 3.5 + shown),
        (1 + SHOWN[1] + 3.1, 7.5 + SHOWN[0]),
        arrowprops={"arrowstyle": "->", "color": WINDOW, "linewidth": 2},
    )

    title(axes, 24, 11, "×", 20)
    squares(axes, 26, 6.5, [[PLAIN] * 5] * 9)
    title(axes, 28.5, 5.1, "weights")

    title(axes, 33, 11, "=", 20)
    squares(axes, 35, 3, [[colour] * 5 for colour in colours])
    title(axes, 37.5, 1.9, "a row of outputs each")
    axes.annotate(
        "",
        (44.8, 10),
        (40.3, 10),
        arrowprops={"arrowstyle": "->", "color": TEXT, "linewidth": 2},
    )

    squares(axes, 45, 8, np.array(colours).reshape(OUTPUT, OUTPUT).tolist())
    title(axes, 47, 6.6, "outputs")

    kept = len(positions) - len(SKIPPED_POSITIONS)
    axes.add_patch(Rectangle((1, 19.4), 0.8, 0.8, facecolor=KEPT))
    axes.text(2.2, 19.8, f"computed: {kept} rows", color=TEXT, fontsize=11, va="center")
    axes.add_patch(Rectangle((11, 19.4), 0.8, 0.8, facecolor=SKIPPED))
    axes.text(
        12.2,
        19.8,
        f"skipped: {len(SKIPPED_POSITIONS)} rows that are neither gathered nor multiplied",
        color=TEXT,
        fontsize=11,
        va="center",
    )
    figure.savefig(Path(__file__).with_name("im2col.png"), transparent=True, dpi=130)


def squares(axes: Axes, left: float, top: float, colours: list[list[str]]) -> None:
    """Draw a grid of unit squares, rows from top to bottom."""
    for y, row in enumerate(colours):
        for x, colour in enumerate(row):
            axes.add_patch(Rectangle((left + x + 0.06, top + y + 0.06), 0.88, 0.88, fc=colour))


def title(axes: Axes, x: float, y: float, text: str, size: int = 11) -> None:
    """Write centred text."""
    axes.text(x, y, text, color=TEXT, fontsize=size, ha="center", va="center")


if __name__ == "__main__":
    main()
