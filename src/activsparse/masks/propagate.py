"""Score maps brought to another size: all layers agree about where in the image they skip."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from activsparse.masks.arrays import FloatMap

__all__ = ["propagate"]


def propagate(score: FloatMap, shape: tuple[int, int]) -> FloatMap:
    """Bring a score map to another size by adaptive average pooling.

    Output row i averages the input rows floor(i H / OH) .. ceil((i + 1) H / OH) - 1, columns alike,
    which is what torch's `adaptive_avg_pool2d` does. Sizes need not divide; larger outputs repeat
    and blend.

    Args:
        score: (H, W).
        shape: (OH, OW).

    Returns:
        float32 (OH, OW).
    """
    # The mean over a rectangle is the mean over its rows of the means over its columns. Sums in a
    # fixed order, not a product of matrices: masks must be equal on every machine.
    rows = _means(score.astype(np.float64), shape[0])
    return np.ascontiguousarray(_means(rows.T, shape[1]).T, dtype=np.float32)


def _means(values: npt.NDArray[np.float64], pooled: int) -> npt.NDArray[np.float64]:
    """Means of the `pooled` adaptive windows of rows."""
    size = len(values)
    if pooled == size:
        return values
    index = np.arange(pooled)
    start = index * size // pooled
    stop = -(-(index + 1) * size // pooled)
    # Every other sum is one of a window; a row of zeros, so that its stop may be the end.
    bounds = np.stack([start, stop], 1).ravel()
    sums = np.add.reduceat(np.pad(values, ((0, 1), (0, 0))), bounds, axis=0)[::2]
    means: npt.NDArray[np.float64] = sums / (stop - start)[:, None]
    return means
