"""Why a masked layer is hardly faster than it would be without its mask."""

from __future__ import annotations

import math

from activsparse import _native
from activsparse.engine.report import NodeReport

__all__ = ["why_not_faster"]

# Bounds are from layers of ResNet18, MobileNetV2 and YOLOv5n with 0.3 of their positions skipped,
# each against itself without a mask (Intel Xeon, Sapphire Rapids class, AVX-512, one thread), where
# multiply-adds alone would give 1.43: with 16 to 64 products for a value 1x1 convolutions were
# 1.09 to 1.26 times as fast, with 256 and more 1.24 to 1.42; depthwise ones with 9 on maps of 7x7
# 0.74 to 0.91. Winograd's that skip no tile were 0.97 to 1.12.
_FEW_PRODUCTS = 64
_MOST_OF = 2 / 3
"""Share of the skipped positions' work that must be saved not to be remarked on."""
_CACHED_BYTES = 1 << 20
"""Weights that may wait in a core's cache for the next run."""
_UNEVEN = 1.25
"""The longest thread's work over the mean, from which on others wait for it."""


def why_not_faster(row: NodeReport, isa: str) -> str:
    """Say why a layer gains little by its mask: one cause, the largest first.

    Args:
        row: an operator of a plan for `isa`.
        isa: instruction set.

    Returns:
        The cause, '' where the mask saves about what it skips, or where there is none.
    """
    if row.requested is None or not row.sparsity:
        return row.reason if row.requested is not None else ""
    skipped, saved = row.sparsity, row.achieved or 0.0
    if row.wastes_mask:
        return _wasted(row)
    covered = row.masked_macs / row.dense_macs if row.dense_macs else 1.0
    if covered < _MOST_OF:
        return f"only {covered:.0%} of its multiply-adds are of convolutions with a mask"
    if saved < _MOST_OF * skipped:
        return f"{row.algorithm} computes every tile with a kept position whole"
    products = row.dense_macs / max(1, math.prod(row.shape))
    if row.kind != "inverted_residual" and products <= _FEW_PRODUCTS:
        return (
            f"few channels: {products:.0f} products for a value of the result, so reading and "
            "writing values counts, of which masks save little"
        )
    _, macs_per_byte, _, _ = _native.costs(isa.split("-")[0])
    fetching = macs_per_byte * row.weight_bytes
    if row.weight_bytes > _CACHED_BYTES and fetching > row.macs > 0:
        return (
            f"few positions: reading {row.weight_bytes / 2**20:.1f} MiB of weights from memory "
            "takes longer than its multiply-adds, however few positions are left"
        )
    if row.longest_share > _UNEVEN:
        return f"one thread has {row.longest_share:.2f} times the mean of its work, others wait"
    return ""


def _wasted(row: NodeReport) -> str:
    times = dict(row.candidates)
    own, direct = times.get(row.algorithm), times.get("direct")
    if own is None or direct is None or own > direct:
        return row.reason
    return f"{row.reason}; direct would skip, but takes {direct:.3g} ms against {own:.3g}"
