"""Pictures with boxes in the layout that YOLO's trainers read.

A YAML file in the root says where the pictures are (`path`, `train`, `val`) and how classes are
called (`names`); without one, pictures are in images/train and images/val, or train/images and
val/images. Labels lie beside them, in folders called labels where those are called images, a text
file for each picture, a line for each object: class, centre x, centre y, width, height, as shares
of the picture; or class and the corners of a polygon.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2.functional import pil_to_tensor

from activsparse.detect.sample import Sample
from activsparse.errors import ActivsparseError
from activsparse.files import require_file
from activsparse.pictures import open_picture
from activsparse.yaml_text import parse_yaml

__all__ = ["Yolo", "is_described", "yolo_parts"]

_log = logging.getLogger(__name__)

_ENDINGS = {".bmp", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
_VALIDATION = ("val", "valid", "test")
# More are no classes, but numbers of something else.
_MOST_CLASSES = 10_000
_PLACES = ("images/{}", "{}/images")


class Yolo(Dataset[Sample]):
    """One part of such data.

    Args:
        pictures: files; of each the labels are known by its path.
        num_classes: labels are below it.
    """

    def __init__(self, pictures: list[Path], num_classes: int) -> None:
        self._pictures, self._num_classes = pictures, num_classes

    def __len__(self) -> int:
        return len(self._pictures)

    def __getitem__(self, index: int) -> Sample:
        """Picture `index`."""
        image = pil_to_tensor(open_picture(self._pictures[index]))
        rows = list(_objects(labels_of(self._pictures[index]), self._num_classes))
        height, width = image.shape[1:]
        shares = torch.tensor([row[1:] for row in rows], dtype=torch.float32).reshape(-1, 4)
        boxes: Tensor = shares * torch.tensor([width, height, width, height])
        return Sample(image, boxes, torch.tensor([row[0] for row in rows]).long())


def is_described(root: Path) -> bool:
    """Whether a YAML file there says where pictures with boxes are."""
    try:
        return any("train" in _description(file) for file in _descriptions(root))
    except ActivsparseError:
        return False


def yolo_parts(root: Path) -> tuple[Yolo, Yolo, list[str]]:
    """Pictures to train on, those to test on, and the names of the classes.

    Raises:
        ActivsparseError: no pictures there, or a file that says something else.
    """
    described = _descriptions(root)
    said: dict[str, Any] = _description(described[0]) if described else {}
    base = root / str(said.get("path") or ".")
    if not base.is_dir():
        base = root  # a path of the machine that it was made on
    found = [
        _pictures(root, base, said, ("train",)),
        _pictures(root, base, said, _VALIDATION),
    ]
    if not any(labels_of(picture).is_file() for part in found for picture in part):
        raise ActivsparseError(
            f"{root}: none of {len(found[0])} training pictures has labels; {found[0][0]} would "
            f"have them in {labels_of(found[0][0])}"
        )
    names = _names(said, described[0] if described else root)
    if names is None:
        rows = (row for part in found for file in part for row in _objects(labels_of(file), None))
        most = max((row[0] for row in rows), default=0)
        names = [str(label) for label in range(most + 1)]
    train, test = (Yolo(pictures, len(names)) for pictures in found)
    return train, test, names


def labels_of(picture: Path) -> Path:
    """Where a picture's labels lie."""
    parts = list(picture.with_suffix(".txt").parts)
    folders = [at for at, part in enumerate(parts[:-1]) if part == "images"]
    if folders:
        parts[folders[-1]] = "labels"
    return Path(*parts)


def _descriptions(root: Path) -> list[Path]:
    return sorted([*root.glob("*.yaml"), *root.glob("*.yml")])


def _description(file: Path) -> dict[str, Any]:
    try:
        said = parse_yaml(require_file(file).read_text(encoding="utf-8", errors="replace"))
    except ValueError as error:
        raise ActivsparseError(f"{file}: {error}; mend it, or take it out of the folder") from error
    if not isinstance(said, dict):
        raise ActivsparseError(f"{file}: says nothing of data; give it train:, val: and names:")
    return said


def _names(said: dict[str, Any], file: Path) -> list[str] | None:
    names = said.get("names")
    if isinstance(names, dict):
        if set(names) != set(range(len(names))):
            raise ActivsparseError(f"{file}: names: must number the classes 0, 1, 2 and so on")
        names = [names[at] for at in range(len(names))]
    if names is None and said.get("nc") is not None:
        count = said["nc"]
        if type(count) is not int or not 1 <= count <= _MOST_CLASSES:
            raise ActivsparseError(
                f"{file}: nc: must be the number of classes, 1 to {_MOST_CLASSES}"
            )
        return [str(label) for label in range(count)]
    if names is not None and (not isinstance(names, list) or not names):
        raise ActivsparseError(f"{file}: names: must be a list of the classes' names")
    return None if names is None else [str(name) for name in names]


def _pictures(root: Path, base: Path, said: dict[str, Any], parts: tuple[str, ...]) -> list[Path]:
    told = next((said[part] for part in parts if said.get(part)), None)
    places = told if isinstance(told, list) else [told] if told else []
    # Paths in such files are of the description, of its `path`, or of a folder above.
    tried = [
        folder
        for place in places
        for folder in (base / str(place), root / str(place), root / str(place).lstrip("./"))
    ]
    told_of = len(tried)
    tried += [root / place.format(part) for part in parts for place in _PLACES]
    for at, folder in enumerate(tried):
        files = _listed(folder)
        if files and 0 < told_of <= at:
            _log.warning("%s: no pictures in %s; those in %s are taken", root, told, folder)
        if files:
            return files
    raise ActivsparseError(
        f"{root}: no pictures of part {parts[0]} there; put them into images/{parts[0]} and their "
        f"labels into labels/{parts[0]}, or say where they are in a YAML file beside"
    )


def _listed(place: Path) -> list[Path]:
    if place.suffix == ".txt" and place.is_file():
        lines = place.read_text(encoding="utf-8", errors="replace").split("\n")
        return [place.parent / line.strip() for line in lines if line.strip()]
    if not place.is_dir():
        return []
    return sorted(file for file in place.rglob("*") if file.suffix.lower() in _ENDINGS)


def _objects(
    file: Path, num_classes: int | None
) -> Iterator[tuple[int, float, float, float, float]]:
    """Label, left, top, right, bottom as shares of the picture; none where there is no file."""
    if not file.is_file():
        return
    for number, line in enumerate(file.read_text(errors="replace").splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            label, values = int(words[0]), [float(word) for word in words[1:]]
            if len(values) == 4:
                x, y, w, h = values
                xs, ys = [x - w / 2, x + w / 2], [y - h / 2, y + h / 2]
            elif len(values) >= 6 and len(values) % 2 == 0:
                xs, ys = values[::2], values[1::2]
            else:
                raise ValueError(f"{len(values)} numbers after the class; 4 make a box")
            if not 0 <= label < (_MOST_CLASSES if num_classes is None else num_classes):
                raise ValueError(f"class {label} of {num_classes or _MOST_CLASSES}")
            if not all(-0.5 <= value <= 1.5 for value in (*xs, *ys)):
                raise ValueError("values are shares of the picture, from 0 to 1")
        except ValueError as error:
            raise ActivsparseError(
                f"{file}: line {number} is no object ({error}); mend it or leave it out"
            ) from error
        left, right = (min(max(edge, 0.0), 1.0) for edge in (min(xs), max(xs)))
        top, bottom = (min(max(edge, 0.0), 1.0) for edge in (min(ys), max(ys)))
        if right > left and bottom > top:
            yield label, left, top, right, bottom
