"""Operators that move values without computing: reshape, concat, resize, transpose."""

from __future__ import annotations

import numpy as np

from activsparse.engine.graph import Node
from activsparse.engine.passes.convert.source import Source

__all__ = ["concat", "reshape", "resize", "transpose"]


def reshape(source: Source) -> list[Node]:
    """Reshape, Flatten, Squeeze, Unsqueeze: the order of elements stays."""
    source.output_shape  # noqa: B018  (raises where the shape is open)
    return [source.engine_node("reshape")]


def concat(source: Source) -> list[Node]:
    """Concat along channels."""
    rank = len(source.output_shape)
    axis = int(source.attribute("axis", 1)) % rank
    if axis != 1 or rank not in (2, 4):
        source.fail(f"it joins axis {axis} of {rank}", "only channels (axis 1) are supported")
    inputs = tuple(source.activation(i) for i in range(len(source.node.inputs)))
    return [source.engine_node("concat", inputs=inputs)]


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


def transpose(source: Source) -> list[Node]:
    """Transpose where it only moves axes of size one, so that the elements keep their order."""
    shape = source.shape()
    order = list(source.attribute("perm", range(len(shape))[::-1]))
    moved = [axis for axis in order if shape[axis] != 1]
    if not np.all(np.diff(moved) > 0):
        source.fail(f"it reorders {shape} by {order}", "keep the layout (N, C, H, W) in the model")
    return [source.engine_node("reshape")]
