"""One function for all data sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from activsparse.data.augment import AUTO_AUGMENT, Augmentation
from activsparse.data.batches import BatchData
from activsparse.data.cifar import load_cifar10, load_cifar100
from activsparse.data.digits import load_digits
from activsparse.data.fashion_mnist import load_fashion_mnist
from activsparse.data.folders import (
    load_flowers102,
    load_food101,
    load_image_folder,
    load_imagenet,
)
from activsparse.data.images import Images
from activsparse.data.module import ImageData
from activsparse.errors import ActivsparseError, Setting
from activsparse.names import suggest

__all__ = ["build_data"]

_SOURCES: dict[str, Callable[[str | None, tuple[int, int]], Images]] = {
    "cifar10": load_cifar10,
    "cifar100": load_cifar100,
    "digits": load_digits,
    "fashion_mnist": load_fashion_mnist,
    "flowers102": load_flowers102,
    "food101": load_food101,
    "image_folder": load_image_folder,
    "imagenet": load_imagenet,
}

_CROP = 0.08
"""Share of an image that torchvision's random crops show at least."""

IMAGE_FOLDER = "image_folder"
"""Data whose classes are the sub-folders there are."""

CLASSIFICATION = tuple(_SOURCES)
"""Data of images with one label each."""

BOXES = ("fashion_scenes", "voc", "coco", "yolo")
"""Data of `activsparse.detect`."""


def build_data(
    name: str,
    root: str | None = None,
    image_size: int | tuple[int, int] = 32,
    batch_size: int = 64,
    *,
    channels: int | None = None,
    augment: bool = True,
    crop: float = _CROP,
    auto_augment: str | None = None,
    random_erasing: float = 0.0,
    validation: float = 0.1,
    limit: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    workers: int = 0,
    seed: int = 0,
    train_size: int | tuple[int, int] | None = None,
    options: Mapping[str, Any] | None = None,
) -> BatchData:
    """Build a data module.

    Args:
        name: `cifar10`, `cifar100`, `digits`, `fashion_mnist`, `flowers102`, `food101`,
            `image_folder` or `imagenet`; with boxes `fashion_scenes`, `voc`, `coco` or `yolo`.
        root: folder of the data; by default $ACTIVSPARSE_DATA, then ./data.
        image_size: side, or (H, W), of the images the network sees.
        batch_size: images per step.
        channels: 1 or 3 converts the images; None keeps them.
        augment: whether training images are varied (shifts or crops, mirroring where harmless).
        crop: share of an image's area that a random crop shows at least; 1 crops nothing.
        auto_augment: `trivial`, `rand` or `auto`: torchvision's policy of that name on top.
        random_erasing: probability that a rectangle of a training image is blanked.
        validation: share of the training images held out, where the data has no part for it.
        limit: at most so many images of each part (training, validation, test), always the same.
        mean: subtracted from values in [0, 1], per channel, with `std`, by which they are then
            divided: those the network's weights were trained with. By default the data set's own.
        std: see `mean`.
        workers: processes that load images.
        seed: of the order and the variation of training images.
        train_size: side, or (H, W), of varied training images, where that is not `image_size`.
        options: of data with boxes: see `activsparse.detect.registry.build_detection_data`.

    Raises:
        ActivsparseError: an unknown name or option, or data that cannot be found.
    """
    if name not in _SOURCES and name not in BOXES:
        if Path(name).is_dir():
            raise ActivsparseError(
                f"data {name!r} is a folder; for one of images, a sub-folder for each class, give ",
                Setting("data.name", "image_folder"),
                " with ",
                Setting("data.root", name),
            )
        raise ActivsparseError(f"data {name!r} is unknown; {suggest(name, [*_SOURCES, *BOXES])}")
    if auto_augment is not None and auto_augment not in AUTO_AUGMENT:
        raise ActivsparseError(
            f"auto_augment {auto_augment!r} is unknown; {suggest(auto_augment, AUTO_AUGMENT)}"
        )
    size = _pair(image_size)
    if name in BOXES:
        return _with_boxes(
            name,
            root,
            (size[0], size[1]),
            batch_size,
            unfit={
                "channels": channels,
                "crop": crop if crop != _CROP else None,
                "auto_augment": auto_augment,
                "random_erasing": random_erasing,
                "mean": mean,
                "std": std,
                "distillation.image_size": train_size,
            },
            augment=augment,
            validation=validation,
            workers=workers,
            seed=seed,
            limit=limit,
            **(options or {}),
        )
    if options:
        raise ActivsparseError(f"data {name}: has no options; leave out data.options")

    def load(size: tuple[int, int]) -> Images:
        return _normalised(_SOURCES[name](root, size), mean, std)

    varied = size if train_size is None else _pair(train_size)
    return ImageData(
        load(size),
        size,
        batch_size,
        at_train_size=None if varied == size else (load(varied), varied),
        channels=channels,
        augmentation=Augmentation(augment, crop, auto_augment, random_erasing),
        validation=validation,
        limit=limit,
        workers=workers,
        seed=seed,
    )


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])


def _normalised(
    images: Images, mean: Sequence[float] | None, std: Sequence[float] | None
) -> Images:
    if mean is None and std is None:
        return images
    if mean is None or std is None or len(mean) != len(std) or len(mean) not in (1, 3):
        raise ActivsparseError(
            "data.mean and data.std go together, one number for each of 1 or 3 channels; set both"
        )
    return replace(images, mean=tuple(mean), std=tuple(std))


def _with_boxes(name: str, *args: Any, unfit: Mapping[str, Any], **options: Any) -> BatchData:
    from activsparse.detect.registry import build_detection_data

    for key, value in unfit.items():
        if value:
            raise ActivsparseError(f"data {name}: {key} is for classification; leave it out")
    try:
        return build_detection_data(name, *args, **options)
    except TypeError as error:
        raise ActivsparseError(f"data {name}: {error}; check data.options") from error
