"""Data sets of image files: Flowers102 and any folder of one sub-folder per class."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.error import URLError

from torch.utils.data import Dataset

from activsparse.data.images import Images, candidate_roots
from activsparse.errors import ActivsparseError

__all__ = ["load_flowers102", "load_image_folder"]

# Of ImageNet, which pretrained networks expect.
_MEAN = (0.485, 0.456, 0.406)
_STD = (0.229, 0.224, 0.225)


def load_flowers102(root: str | None, image_size: tuple[int, int]) -> Images:
    """Oxford's 102 flowers: its own training, validation and test parts.

    Raises:
        ActivsparseError: no copy in `root` and no download.
    """
    from torchvision.datasets import Flowers102

    folder = next((r for r in candidate_roots(root) if (r / "flowers-102").is_dir()), None)
    folder = folder or candidate_roots(root)[0]
    try:
        parts = [Flowers102(str(folder), s, download=True) for s in ("train", "val", "test")]
    except (OSError, URLError, RuntimeError) as error:
        raise ActivsparseError(
            f"Flowers102 is not in {folder} and cannot be downloaded ({error}); put 102flowers.tgz "
            f"(unpacked to jpg/), imagelabels.mat and setid.mat into {folder / 'flowers-102'}"
        ) from error
    train, validation, test = parts
    return Images(train, test, 102, 3, _MEAN, _STD, validation=validation, flip=True)


def load_image_folder(root: str | None, image_size: tuple[int, int]) -> Images:
    """A folder with `train/CLASS/*`, and optionally `val/CLASS/*` and `test/CLASS/*`.

    With `val` but no `test` the validation images are the test images and the validation part is
    split off the training images.

    Raises:
        ActivsparseError: no root, no such folders, no images, or other classes in one of them.
    """
    if root is None:
        raise ActivsparseError("data image_folder: needs a folder; set data.root")
    base = Path(root).expanduser()
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
    return Images(train, test, len(train.classes), 3, _MEAN, _STD, validation=validation, flip=True)


def _folder(path: Path) -> Any:
    from torchvision.datasets import ImageFolder

    try:
        return ImageFolder(str(path))
    except (FileNotFoundError, OSError) as error:
        raise ActivsparseError(
            f"{path}: is no folder of images ({error}); put one sub-folder per class there"
        ) from error
