"""Image files: the one reader, and what published networks expect."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

from activsparse.errors import ActivsparseError

if TYPE_CHECKING:
    from PIL import Image

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "open_picture"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
"""Of ImageNet's images, which pretrained networks expect subtracted from values in [0, 1]."""
IMAGENET_STD = (0.229, 0.224, 0.225)
"""What they expect the difference divided by."""


def open_picture(
    path: str | os.PathLike[str],
    mode: str = "RGB",
    *,
    problem: str = "cannot be read as an image",
    remedy: str = "mend it or take it out of the folder",
) -> Image.Image:
    """Return a picture, decoded, in a mode of Pillow's: `RGB`, or `L` for grey.

    Of values of 16 bits, as cameras for science write them, the upper 8 are taken.

    Raises:
        ActivsparseError: it cannot be read, or holds values of no known range; names the file,
            `problem`, the cause and `remedy`.
    """
    from PIL import Image

    try:
        if stat.S_ISFIFO(os.stat(path).st_mode):  # noqa: PTH116
            raise OSError("a pipe, which would be waited for")
        with Image.open(path) as image:
            picture: Image.Image = _in_8_bits(image).convert(mode)
    # A PNG file that breaks off between chunks raises a SyntaxError.
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ActivsparseError(f"{os.fspath(path)}: {problem} ({error}); {remedy}") from error
    return picture


def _in_8_bits(image: Image.Image) -> Image.Image:
    """The picture itself, unless its values are wider: Pillow would cut those off at 255.

    Raises:
        ValueError: they are no whole numbers of 16 bits.
    """
    if image.mode[0] not in "IF":
        return image
    import numpy as np
    from PIL import Image

    values = np.asarray(image)
    if image.mode == "I" and values.min() >= 0 and values.max() < 1 << 8:
        return image  # wide numbers, but of 8 bits
    if image.mode == "F" or values.min() < 0 or values.max() >= 1 << 16:
        raise ValueError("its values are not of 8 or 16 bits; scale them to 8 bits")
    return Image.fromarray((values >> 8).astype(np.uint8))
