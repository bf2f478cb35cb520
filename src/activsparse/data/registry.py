"""One function for all data sets."""

from __future__ import annotations

from collections.abc import Callable

from activsparse.data.digits import load_digits
from activsparse.data.fashion_mnist import load_fashion_mnist
from activsparse.data.folders import load_flowers102, load_image_folder
from activsparse.data.images import Images
from activsparse.data.module import ImageData
from activsparse.errors import ActivsparseError
from activsparse.train.names import suggest

__all__ = ["build_data"]

_SOURCES: dict[str, Callable[[str | None, tuple[int, int]], Images]] = {
    "digits": load_digits,
    "fashion_mnist": load_fashion_mnist,
    "flowers102": load_flowers102,
    "image_folder": load_image_folder,
}


def build_data(
    name: str,
    root: str | None = None,
    image_size: int | tuple[int, int] = 32,
    batch_size: int = 64,
    *,
    channels: int | None = None,
    augment: bool = True,
    validation: float = 0.1,
    workers: int = 0,
    seed: int = 0,
) -> ImageData:
    """Build a data module.

    Args:
        name: `digits`, `fashion_mnist`, `flowers102` or `image_folder`.
        root: folder of the data; by default $ACTIVSPARSE_DATA, then ./data.
        image_size: side, or (H, W), of the images the network sees.
        batch_size: images per step.
        channels: 1 or 3 converts the images; None keeps them.
        augment: whether training images are varied (shifts or crops, mirroring where harmless).
        validation: share of the training images held out, where the data has no part for it.
        workers: processes that load images.
        seed: of the order and the variation of training images.

    Raises:
        ActivsparseError: an unknown name, or data that cannot be found.
    """
    if name not in _SOURCES:
        raise ActivsparseError(f"data {name!r} is unknown; {suggest(name, _SOURCES)}")
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    images = _SOURCES[name](root, (size[0], size[1]))
    return ImageData(
        images,
        (size[0], size[1]),
        batch_size,
        channels=channels,
        augment=augment,
        validation=validation,
        workers=workers,
        seed=seed,
    )
