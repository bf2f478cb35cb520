"""Pictures with boxes by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch.utils.data import Dataset

from activsparse.data.images import candidate_roots
from activsparse.data.module import split
from activsparse.detect.data import Cached, DetectionData
from activsparse.detect.formats import Coco, Voc
from activsparse.detect.sample import Sample
from activsparse.detect.scenes import Scenes
from activsparse.errors import ActivsparseError

__all__ = ["build_detection_data"]

Parts = tuple[Dataset[Sample], Dataset[Sample], Dataset[Sample], int]


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
    return train, validation, test, parts[0].num_classes


def _voc(root: str | None, share: float, year: str | int = 2012) -> Parts:
    folder = str(candidate_roots(root)[0])
    train, test = (Voc(folder, part, str(year)) for part in ("train", "val"))
    return *split(train, share), test, Voc.num_classes


def _coco(root: str | None, share: float, year: str | int = 2017) -> Parts:
    folder = candidate_roots(root)[0]
    train, test = (_coco_part(folder, f"{part}{year}") for part in ("train", "val"))
    if train.categories != test.categories:
        raise ActivsparseError(
            f"{folder}: train{year} and val{year} have other categories; give both the same list"
        )
    return *split(train, share), test, train.num_classes


def _coco_part(folder: Path, name: str) -> Coco:
    return Coco(str(folder / name), str(folder / "annotations" / f"instances_{name}.json"))


_SOURCES: dict[str, Callable[..., Parts]] = {
    "fashion_scenes": _scenes,
    "voc": _voc,
    "coco": _coco,
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
    mosaic: float = 0.5,
    **options: Any,
) -> DetectionData:
    """Build a data module; see `activsparse.data.build_data`.

    Args:
        name: `fashion_scenes`, `voc` (`root`/VOCdevkit) or `coco` (`root`/train2017,
            `root`/annotations/instances_train2017.json and so on).
        root: folder of the data.
        size: (H, W) pictures are fitted to.
        batch_size: pictures of a step.
        augment: whether training pictures are varied.
        validation: share of the training pictures that is held out; the data's own validation part
            is the test set. Scenes make as many further ones.
        workers: processes that prepare batches.
        seed: of order and variation.
        mosaic: share of training pictures put together from four.
        options: `pictures`, `test_pictures` and `source` of scenes, `year` of VOC and COCO.

    Raises:
        ActivsparseError: data that cannot be found; TypeError: an unknown option.
    """
    train, held_out, test, classes = _SOURCES[name](root, validation, **options)
    return DetectionData(
        train,
        held_out,
        test,
        classes,
        size,
        batch_size,
        seed=seed,
        workers=workers,
        mosaic=mosaic if augment else None,
    )
