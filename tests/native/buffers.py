"""Tensors in memory as the engine lays them out, with guards around them."""

from __future__ import annotations

import numpy as np

from activsparse import _native

__all__ = ["LAYOUTS", "Buffer"]

LAYOUTS = ("tight", "padded", "view")
_GUARD = 64  # floats before and after that nothing may touch


class Buffer:
    """One float32 tensor; what it does not own is NaN, and must stay so.

    Args:
        shape: (N, H, W, C).
        layout: `tight` (stride = C), `padded` (stride a multiple of 16, all lanes owned), `view`
            (a part of a wider tensor: lanes between the pixels belong to others), or `nchw`.
        values: float (N, H, W, C); left NaN when absent.
    """

    def __init__(
        self, shape: tuple[int, ...], layout: str = "tight", values: np.ndarray | None = None
    ) -> None:
        n, h, w, c = shape
        nchw = layout == "nchw"
        stride = {"padded": -(-c // 16) * 16, "view": c + 21}.get(layout, c)
        self.desc = _native.TensorDesc(n, h, w, c, stride, nchw=nchw, padded=layout == "padded")
        extent = self.desc.extent
        self._memory = np.full(2 * _GUARD + n * h * w * stride, np.nan, np.float32)
        self.array = self._memory[_GUARD : _GUARD + extent]
        item = self._memory.itemsize
        steps = (c * h * w, w, 1, h * w) if nchw else (h * w * stride, w * stride, stride, 1)
        self.values = np.lib.stride_tricks.as_strided(
            self._memory[_GUARD:], shape, [item * s for s in steps]
        )
        if values is not None:
            self.values[:] = values

    def check(self, expected: np.ndarray, tolerance: float | np.ndarray, what: object) -> None:
        """Fail unless the values are right and nothing outside of the tensor was written."""
        error = np.abs(self.values.astype(np.float64) - expected)
        assert np.all(error <= tolerance), (
            f"{what}: error {np.nanmax(error)} at {self.values.shape}"
        )
        self.values[:] = np.nan
        if self.desc.padded:
            self.array[:] = np.nan
        assert np.all(np.isnan(self._memory)), f"{what}: wrote outside of its tensor"
