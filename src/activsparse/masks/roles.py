"""Which first convolutions are a network's stem, whoever describes the network."""

from __future__ import annotations

from collections.abc import Sequence

from activsparse.masks.shape import ConvShape

__all__ = ["stems"]


def stems(
    shapes: Sequence[ConvShape | None], first: Sequence[bool], follows: Sequence[int | None]
) -> list[bool]:
    """Which convolutions are a stem.

    A stem is the convolution that reads the image and, where it strides, what follows it at its
    size: the further convolutions of a deep stem (ResNet-D, Inception), up to what makes the map
    smaller or branches. Pointwise and depthwise convolutions belong to the blocks that follow
    (MobileNet).

    Args:
        shapes: in the order of execution; None where one is unknown.
        first: which read the image.
        follows: for each the number of the one that it alone reads, through norms and activations
            but no pooling; None where there is none.
    """
    deep: list[bool] = []  # part of a stem that strides
    found: list[bool] = []
    for shape, reads_image, before in zip(shapes, first, follows, strict=True):
        ordinary = shape is not None and shape.group == 1 and max(shape.kernel) > 1
        strides = shape is not None and max(shape.stride) > 1
        goes_on = before is not None and deep[before] and ordinary and not strides
        found.append(reads_image or goes_on)
        deep.append((reads_image and strides) or goes_on)
    return found
