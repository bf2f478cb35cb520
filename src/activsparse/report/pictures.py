"""Photographs and masks as small data addresses."""

from __future__ import annotations

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["data_address", "mask_address", "photo_address"]

_TINT = (255, 90, 54)
_OPACITY = 190


def data_address(picture: Image.Image, kind: str = "PNG") -> str:
    """A picture as an address that holds it, of kind PNG or JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, format=kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def photo_address(image: npt.NDArray[np.float32], pixels: int = 192) -> str:
    """A square JPEG of an image.

    Args:
        image: (H, W) or (H, W, 3), float in [0, 1].
        pixels: its height and width.
    """
    values = np.clip(255 * image, 0, 255).astype(np.uint8)
    how = Image.Resampling.NEAREST if max(image.shape[:2]) < pixels else Image.Resampling.BILINEAR
    photo = Image.fromarray(values).convert("RGB").resize((pixels, pixels), how)
    return data_address(photo, "JPEG")


def mask_address(mask: npt.NDArray[np.bool_]) -> str:
    """A mask to lie over a photograph, one pixel per position: skipped ones tinted, others clear.

    Args:
        mask: (OH, OW), True = computed.
    """
    tint = np.zeros((*mask.shape, 4), np.uint8)
    tint[~mask] = (*_TINT, _OPACITY)
    return data_address(Image.fromarray(tint))
