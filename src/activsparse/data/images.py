"""What a source of images gives to the data module."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

__all__ = ["Images", "candidate_roots"]


@dataclass(frozen=True)
class Images:
    """A classification data set.

    Attributes:
        train: pairs of an image (PIL, or uint8 tensor (C, H, W)) and a label.
        test: the same; None where there is none.
        validation: the data set's own validation part; None to have it split off `train`.
        num_classes: labels are 0 .. num_classes - 1.
        channels: of the images, 1 or 3.
        mean: per channel, of values in [0, 1].
        std: alike.
        flip: whether mirrored images keep their meaning.
        small: whether images come in their final size (shifted for augmentation, not cropped).
        classes: names of the labels, where the data set has any.
    """

    train: Dataset[Any]
    test: Dataset[Any] | None
    num_classes: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    validation: Dataset[Any] | None = None
    flip: bool = False
    small: bool = False
    classes: tuple[str, ...] = ()


def candidate_roots(root: str | None) -> list[Path]:
    """Where data may lie: the given folder, else $ACTIVSPARSE_DATA, then ./data."""
    if root is not None:
        return [Path(root).expanduser()]
    named = os.environ.get("ACTIVSPARSE_DATA")
    return [*([Path(named).expanduser()] if named else []), Path("data")]
