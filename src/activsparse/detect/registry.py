"""Pictures with boxes by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset, Subset

from activsparse.data.batches import size_of
from activsparse.data.images import candidate_roots
from activsparse.data.module import split
from activsparse.detect.data import Cached, DetectionData
from activsparse.detect.formats import VOC_CLASSES, Coco, Voc
from activsparse.detect.sample import Sample
from activsparse.detect.scenes import Scenes
from activsparse.detect.yolo import yolo_parts
from activsparse.errors import ActivsparseError

__all__ = ["build_detection_data"]

Parts = tuple[Dataset[Sample], Dataset[Sample], Dataset[Sample], Sequence[str]]
"""To train on, to choose by, to test on, and the names of the classes."""


def _scenes(
    root: str | None,
    share: float,
    pictures: int = 2000,
    test_pictures: int = 1000,
    source: str | None = None,
) -> Parts:
    held_out = max(round(pictures * share), 1)
    counts = {"train": pictures, "validation": held_out, "test": test_pictures}
    # The seed of a run varies its training; the pictures stay, so that runs can be compared.
    parts = [Scenes(count, name, 0, root, source) for name, count in counts.items()]
    train, validation, test = (Cached(part) for part in parts)
    return train, validation, test, [str(label) for label in range(parts[0].num_classes)]


def _voc(root: str | None, share: float, year: str | int = 2012) -> Parts:
    folder = str(candidate_roots(root)[0])
    train, test = (Voc(folder, part, str(year)) for part in ("train", "val"))
    return *split(train, share), test, VOC_CLASSES


def _coco(root: str | None, share: float, year: str | int | None = None) -> Parts:
    folder = candidate_roots(root)[0]
    if year is None:
        year = _coco_year(folder)
    train, test = (_coco_part(folder, f"{part}{year}") for part in ("train", "val"))
    if train.categories != test.categories:
        raise ActivsparseError(
            f"{folder}: train{year} and val{year} have other categories; give both the same list"
        )
    return *split(train, share), test, [str(name) for name in train.categories.values()]


def _coco_year(folder: Path) -> str:
    """What follows `instances_train` in the name of the only such file; else 2017."""
    beginning = "instances_train"
    found = [x.stem[len(beginning) :] for x in (folder / "annotations").glob(f"{beginning}*.json")]
    return found[0] if len(found) == 1 else "2017"


def _coco_part(folder: Path, name: str) -> Coco:
    places = [folder / name, folder / "images" / name, folder / "images"]
    pictures = next((place for place in places if place.is_dir()), places[0])
    return Coco(str(pictures), str(folder / "annotations" / f"instances_{name}.json"))


def _yolo(root: str | None, share: float) -> Parts:
    train, test, names = yolo_parts(candidate_roots(root)[0])
    return *split(train, share), test, names


_SOURCES: dict[str, Callable[..., Parts]] = {
    "fashion_scenes": _scenes,
    "voc": _voc,
    "coco": _coco,
    "yolo": _yolo,
}


def build_detection_data(
    name: str,
    root: str | None,
    size: tuple[int, int],
    batch_size: int,
    *,
    augment: bool,
    validation: float,
    workers: int,
    seed: int,
    limit: int | None = None,
    mosaic: float = 0.5,
    **options: Any,
) -> DetectionData:
    """Build a data module; see `activsparse.data.build_data`.

    Args:
        name: `fashion_scenes`, `voc` (`root`/VOCdevkit), `coco` (`root`/train2017,
            `root`/annotations/instances_train2017.json and so on, or without the year) or `yolo`
            (see `activsparse.detect.yolo`).
        root: folder of the data.
        size: (H, W) pictures are fitted to.
        batch_size: pictures of a step.
        augment: whether training pictures are varied.
        validation: share of the training pictures that is held out; the data's own validation part
            is the test set. Scenes make as many further ones.
        workers: processes that prepare batches.
        seed: of order and variation.
        limit: at most so many pictures of each part, always the first.
        mosaic: share of training pictures put together from four.
        options: `pictures`, `test_pictures` and `source` of scenes, `year` of VOC and COCO.

    Raises:
        ActivsparseError: data that cannot be found; TypeError: an unknown option.
    """
    *parts, classes = _SOURCES[name](root, validation, **options)
    if limit is not None:
        parts = [Subset(part, range(min(limit, size_of(part)))) for part in parts]
    train, held_out, test = parts
    return DetectionData(
        train,
        held_out,
        test,
        len(classes),
        size,
        batch_size,
        seed=seed,
        workers=workers,
        mosaic=mosaic if augment else None,
        classes=classes,
    )
