"""What a convolution has to compute, and what of its input each tap then meets."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from activsparse.engine.graph import Array, Node

__all__ = ["Plane", "computed", "gathered", "inputs_of_taps"]

Plane = npt.NDArray[np.bool_]


def gathered(node: Node, needed: Plane) -> Plane:
    """The positions whose values a node with a `source` copies to the needed ones, both (H, W)."""
    plane = np.zeros(needed.size, dtype=bool)
    plane[node.arrays["source"][needed.reshape(-1)]] = True
    return plane.reshape(needed.shape)


def computed(conv: Node, needed: Plane) -> Plane:
    """What a convolution has to compute for the needed positions of its result, both (H, W)."""
    if "source" in conv.arrays:
        return gathered(conv, needed)
    return needed & conv.arrays["mask"].astype(bool) if "mask" in conv.arrays else needed


def inputs_of_taps(
    conv: Node, at: Plane, size: tuple[int, ...]
) -> Iterator[tuple[tuple[int, int], Array, Array]]:
    """Where in an input of this (H, W) each tap of the kernel meets it, for the positions `at`.

    Yields:
        The tap (row, column), and rows and columns of the input, those in the padding left out.
    """
    attributes = conv.attributes
    y, x = np.nonzero(at)
    y = y * attributes.get("stride_h", 1) - attributes.get("pad_top", 0)
    x = x * attributes.get("stride_w", 1) - attributes.get("pad_left", 0)
    for tap in np.ndindex(*conv.arrays["weight"].shape[2:]):
        at_y = y + tap[0] * attributes.get("dilation_h", 1)
        at_x = x + tap[1] * attributes.get("dilation_w", 1)
        inside = (at_y >= 0) & (at_y < size[0]) & (at_x >= 0) & (at_x < size[1])
        yield (tap[0], tap[1]), at_y[inside], at_x[inside]
