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
    rows = _averaging(score.shape[0], shape[0])
    columns = _averaging(score.shape[1], shape[1])
    # The mean over a rectangle is the mean over its rows of the means over its columns.
    pooled: npt.NDArray[np.float64] = rows @ score.astype(np.float64) @ columns.T
    return pooled.astype(np.float32)


def _averaging(size: int, pooled: int) -> npt.NDArray[np.float64]:
    """The (pooled, size) matrix whose row i averages the i-th adaptive window."""
    index = np.arange(pooled)
    start = index * size // pooled
    stop = -(-(index + 1) * size // pooled)
    position = np.arange(size)
    inside = (position >= start[:, None]) & (position < stop[:, None])
    return inside / (stop - start)[:, None]
