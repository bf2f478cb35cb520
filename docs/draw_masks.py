"""Draws docs/masks.png, the picture of the mask patterns in the README.

python docs/draw_masks.py
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from activsparse.masks import make_mask, random_score, sparsity_of

SHAPE = (28, 28)
SPARSITY = 0.3
KEPT, SKIPPED, TEXT = "#2f9e8f", "#f0b39a", "#7f8896"  # to be read on dark pages and on light ones


def main() -> None:
    """Draw one panel per pattern."""
    score = random_score(SHAPE, np.random.default_rng(0))
    masks = {
        "random (the paper)": make_mask("random", SHAPE, SPARSITY, score=score),
        "random, block 4": make_mask("random", SHAPE, SPARSITY, score=score, block=4),
        "lattice": make_mask("lattice", SHAPE, SPARSITY),
        "tiles": make_mask("tiles", SHAPE, SPARSITY),
        "band": make_mask("band", SHAPE, SPARSITY),
    }
    with mpl.rc_context({"image.interpolation": "nearest"}):
        figure = Figure(figsize=(13.5, 3.1))
        for axes, (name, mask) in zip(figure.subplots(1, len(masks)), masks.items(), strict=True):
            axes.imshow(mask, cmap=ListedColormap([SKIPPED, KEPT]), vmin=0, vmax=1)
            axes.set_axis_off()
            axes.set_title(f"{name}: {sparsity_of(mask):.0%} skipped", color=TEXT, fontsize=11)
        figure.tight_layout()
        figure.savefig(Path(__file__).with_name("masks.png"), transparent=True, dpi=150)


if __name__ == "__main__":
    main()
