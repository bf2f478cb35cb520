"""The array types of this package."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = ["FloatMap", "IntArray", "Mask"]

FloatMap: TypeAlias = npt.NDArray[np.float32]
"""A score per position, (H, W)."""
Mask: TypeAlias = npt.NDArray[np.bool_]
"""Which positions are computed, (OH, OW)."""
IntArray: TypeAlias = npt.NDArray[np.int32]
"""Flat indices of positions."""
