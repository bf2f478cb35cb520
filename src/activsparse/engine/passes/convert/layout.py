"""Operators that move values without computing: reshape and resize."""

from __future__ import annotations

from activsparse.engine.graph import Node
from activsparse.engine.passes.convert.source import Source

__all__ = ["reshape", "resize"]


def reshape(source: Source) -> list[Node]:
    """Reshape, Flatten, Squeeze, Unsqueeze: the order of elements stays."""
    source.output_shape  # noqa: B018  (raises where the shape is open)
    return [source.engine_node("reshape")]


def resize(source: Source) -> list[Node]:
    """Resize or Upsample by whole factors, nearest neighbour."""
    n, c, h, w = source.image_shape()
    out = source.output_shape
    mode = source.attribute("mode", "nearest")
    transform = source.attribute("coordinate_transformation_mode", "half_pixel")
    rounding = source.attribute("nearest_mode", "round_prefer_floor")
    # At whole factors, both of these read input floor(x / factor).
    exact = source.node.op == "Upsample" or (
        (transform == "asymmetric" and rounding == "floor")
        or (
            transform in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric")
            and rounding.startswith("round_prefer")
        )
    )
    if mode != "nearest" or not exact or out[:2] != (n, c) or out[2] % h or out[3] % w:
        source.fail(
            f"mode '{mode}' ({transform}, {rounding}) from {h}x{w} to {out[2]}x{out[3]}",
            "only nearest neighbour by whole factors is supported",
        )
    scales = {"scale_h": out[2] // h, "scale_w": out[3] // w}
    return [source.engine_node("resize_nearest", scales)]
