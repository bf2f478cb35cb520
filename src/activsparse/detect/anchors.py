"""Anchors for other data than COCO: k-means over the boxes' widths and heights."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from activsparse.errors import ActivsparseError

__all__ = ["Sizes", "kmeans_anchors"]

Sizes = npt.NDArray[np.floating[Any]]


def kmeans_anchors(
    sizes: Sizes, scales: int = 3, per_scale: int = 3, seed: int = 0
) -> list[list[list[float]]]:
    """Cluster boxes by their logarithmic sizes, so that ratios count, not differences.

    Args:
        sizes: (M, 2) widths and heights in pixels of the training size.
        scales: of the detector, the finest first.
        per_scale: anchors of each.
        seed: of the first centres.

    Returns:
        (scales, per_scale, 2) widths and heights by growing area.

    Raises:
        ActivsparseError: fewer boxes than anchors.
    """
    count = scales * per_scale
    if len(sizes) < count:
        raise ActivsparseError(
            f"{len(sizes)} boxes in the training pictures are too few for {count} anchors; add "
            "pictures with objects, or check that their labels are where they belong"
        )
    points = np.log(np.maximum(sizes, 1.0)).astype(np.float64)
    rng = np.random.default_rng(seed)
    centres = points[rng.integers(len(points))][None]
    while len(centres) < count:  # k-means++ (Arthur and Vassilvitskii, 2007)
        nearest = _distances(points, centres).min(1) + 1e-9
        pick = rng.choice(len(points), p=nearest / nearest.sum())
        centres = np.vstack([centres, points[pick]])
    for _ in range(50):
        owner = _distances(points, centres).argmin(1)
        members = [points[owner == i] for i in range(count)]
        moved = np.array(
            [m.mean(0) if len(m) else c for m, c in zip(members, centres, strict=True)]
        )
        if np.allclose(moved, centres):
            break
        centres = moved
    order = np.argsort(centres.sum(1))
    anchors: list[list[list[float]]] = np.exp(centres[order]).reshape(scales, per_scale, 2).tolist()
    return anchors


def _distances(points: Sizes, centres: Sizes) -> Sizes:
    difference: Sizes = ((points[:, None] - centres[None]) ** 2).sum(2)
    return difference
