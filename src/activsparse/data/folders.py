"""Data sets of image files: Flowers102, Food101, ImageNet, or one sub-folder per class."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset, Subset

from activsparse.data.download import downloaded
from activsparse.data.images import Images, candidate_roots
from activsparse.errors import ActivsparseError, Setting
from activsparse.pictures import IMAGENET_MEAN, IMAGENET_STD, open_picture

__all__ = [
    "load_flowers102",
    "load_food101",
    "load_image_folder",
    "load_imagenet",
    "pictures_below",
]

_TEST_SHARE = 0.2

_PARTS = ("train", "training", "val", "valid", "validation", "test", "testing")
"""Names of the parts of a data set, which are hardly those of all its classes."""


def load_flowers102(root: str | None, image_size: tuple[int, int]) -> Images:
    """Oxford's 102 flowers: its own training, validation and test parts.

    Raises:
        ActivsparseError: no copy in `root` and no download.
    """
    from torchvision.datasets import Flowers102

    folder = next((r for r in candidate_roots(root) if (r / "flowers-102").is_dir()), None)
    folder = folder or candidate_roots(root)[0]
    train, validation, test = downloaded(
        "Flowers102",
        folder,
        ("flowers-102",),
        lambda place: [Flowers102(place, s, download=True) for s in ("train", "val", "test")],
        "put 102flowers.tgz (unpacked to jpg/), imagelabels.mat and setid.mat into "
        f"{folder / 'flowers-102'}",
    )
    return Images(
        train, test, 102, 3, IMAGENET_MEAN, IMAGENET_STD, validation=validation, flip=True
    )


def load_food101(root: str | None, image_size: tuple[int, int]) -> Images:
    """Food-101: its own training and test parts.

    Raises:
        ActivsparseError: no copy in `root` and no download.
    """
    from torchvision.datasets import Food101

    folder = next((r for r in candidate_roots(root) if (r / "food-101").is_dir()), None)
    folder = folder or candidate_roots(root)[0]
    train, test = downloaded(
        "Food101",
        folder,
        ("food-101", "food-101.tar.gz"),
        lambda place: [Food101(place, part, download=True) for part in ("train", "test")],
        "unpack food-101.tar.gz there, which gives food-101/images/ and food-101/meta/",
    )
    return Images(train, test, len(train.classes), 3, IMAGENET_MEAN, IMAGENET_STD, flip=True)


def load_imagenet(root: str | None, image_size: tuple[int, int]) -> Images:
    """ImageNet-1K as `train/nXXXXXXXX/*` and `val/nXXXXXXXX/*`, 1000 classes in both.

    The published validation images are the test images; the validation part is split off the
    training images.

    Raises:
        ActivsparseError: no such folders, validation images that are not sorted into classes, or
            not 1000 of them.
    """
    places = [p for r in candidate_roots(root) for p in (r, r / "imagenet")]
    base = next((p for p in places if (p / "train").is_dir()), None)
    if base is None:
        raise ActivsparseError(
            f"ImageNet is not in {places[0]} and cannot be downloaded without an account; unpack "
            "ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar of image-net.org to "
            "train/nXXXXXXXX/ and val/nXXXXXXXX/ there, or set data.root to where they are"
        )
    if not any(p.is_dir() for p in (base / "val").glob("*")):
        raise ActivsparseError(
            f"{base / 'val'}: holds no folders of classes; sort the validation images into "
            "val/nXXXXXXXX/ (torchvision.datasets.ImageNet does it from the archives)"
        )
    images = load_image_folder(str(base), image_size)
    if images.num_classes != 1000:
        raise ActivsparseError(
            f"{base / 'train'}: has {images.num_classes} classes, ImageNet-1K has 1000; "
            "complete it, or use ",
            Setting("data.name", "image_folder"),
            " for a part of it",
        )
    return images


def load_image_folder(root: str | None, image_size: tuple[int, int]) -> Images:
    """A folder with `train/CLASS/*`, and optionally `val/CLASS/*` and `test/CLASS/*`.

    With `val` but no `test` the validation images are the test images and the validation part is
    split off the training images. A folder with `CLASS/*` alone is split into training and test
    images, class by class.

    Raises:
        ActivsparseError: no root, no such folders, no images, or other classes in one of them.
    """
    if root is None:
        raise ActivsparseError(
            "data image_folder: needs a folder with train/CLASS/*.jpg or CLASS/*.jpg; set ",
            Setting("data.root"),
        )
    base = Path(root).expanduser()
    if base.is_dir() and not (base / "train").is_dir():
        return _split_folder(base)
    train = _folder(base / "train")
    parts: dict[str, Any] = {}
    for name in ("val", "test"):
        if (base / name).is_dir():
            parts[name] = _folder(base / name)
            if parts[name].classes != train.classes:
                odd = sorted(set(parts[name].classes) ^ set(train.classes))
                raise ActivsparseError(
                    f"{base / name}: classes differ from those of {base / 'train'} "
                    f"({', '.join(odd[:5])}); give both the same sub-folders"
                )
    test: Dataset[Any] | None = parts.get("test", parts.get("val"))
    validation = parts.get("val") if "test" in parts else None
    return Images(
        train,
        test,
        len(train.classes),
        3,
        IMAGENET_MEAN,
        IMAGENET_STD,
        validation=validation,
        flip=True,
        classes=tuple(train.classes),
    )


def _split_folder(base: Path) -> Images:
    """A fifth of each class's images are test images: the same ones in every run."""
    whole = _folder(base)
    generator = torch.Generator().manual_seed(0)
    labels = torch.tensor(whole.targets)
    train: list[int] = []
    test: list[int] = []
    for label in range(len(whole.classes)):
        own = torch.nonzero(labels == label)[:, 0]
        own = own[torch.randperm(len(own), generator=generator)]
        count = round(len(own) * _TEST_SHARE)
        test += own[:count].tolist()
        train += own[count:].tolist()
    return Images(
        Subset(whole, train),
        Subset(whole, test) if test else None,
        len(whole.classes),
        3,
        IMAGENET_MEAN,
        IMAGENET_STD,
        flip=True,
        classes=tuple(whole.classes),
    )


def _folder(path: Path) -> Any:
    """The images of `path/CLASS/*`; hidden folders, as notebooks and file managers leave, are none.

    Raises:
        ActivsparseError: no folders of classes, one without images, or a single class.
    """
    from torchvision.datasets import ImageFolder
    from torchvision.datasets.folder import IMG_EXTENSIONS

    if not path.is_dir():
        raise ActivsparseError(
            f"{path}: is no folder of images; make it one, with a sub-folder for each class"
        )
    classes = sorted(f.name for f in path.iterdir() if f.is_dir() and not f.name.startswith("."))
    if not classes:
        held = "images, but " if _holds_pictures(path) else ""
        raise ActivsparseError(
            f"{path}: holds {held}no folders of classes; put a sub-folder for each class there, "
            "with its images in it"
        )
    parts = [name for name in classes if name.lower() in _PARTS]
    if parts == classes:
        raise ActivsparseError(
            f"{path}: holds parts ({', '.join(parts)}) in the place of classes; call the folder of "
            "training images train, those held out val and test"
        )
    bare = [name for name in classes if not _holds_pictures(path / name)]
    if bare:
        raise ActivsparseError(
            f"{path}: holds no images of {', '.join(bare[:5])} (suffixes that are read: "
            f"{', '.join(IMG_EXTENSIONS)}); put some into each sub-folder, or remove it"
        )
    if len(classes) == 1:
        raise ActivsparseError(
            f"{path}: holds a single class, {classes[0]}, and a classifier tells two or more "
            "apart; name the folder that has a sub-folder for each class"
        )

    class Pictures(ImageFolder):  # type: ignore[misc]
        def find_classes(self, directory: Any) -> tuple[list[str], dict[str, int]]:
            return classes, {name: label for label, name in enumerate(classes)}

    return Pictures(str(path), loader=open_picture)


def _holds_pictures(folder: Path) -> bool:
    return next(pictures_below(folder), None) is not None


def pictures_below(folder: Path) -> Iterator[str]:
    """Paths of the files that look like images, at any depth, behind links, too."""
    from torchvision.datasets.folder import IMG_EXTENSIONS

    for place, _, names in os.walk(folder, followlinks=True):
        yield from (str(Path(place, n)) for n in names if n.lower().endswith(IMG_EXTENSIONS))
