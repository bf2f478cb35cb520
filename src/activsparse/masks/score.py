"""Score maps: how much each image position is worth."""

from __future__ import annotations

import numpy as np

from activsparse.masks.arrays import FloatMap

__all__ = ["random_score"]


def random_score(shape: tuple[int, int], rng: np.random.Generator) -> FloatMap:
    """Draw a score map uniformly from [0, 1).

    Args:
        shape: (H, W) of the map, usually the size of the network's input.
        rng: source of randomness; the same state gives the same map.

    Returns:
        float32 (H, W).
    """
    return rng.random(shape, dtype=np.float32)
