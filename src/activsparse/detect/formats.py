"""Pictures with boxes in the formats of Pascal VOC and COCO, through torchvision's readers."""

from __future__ import annotations

import io
from collections import Counter
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.datasets import CocoDetection, VOCDetection
from torchvision.transforms.v2.functional import pil_to_tensor

from activsparse.detect.sample import Sample
from activsparse.errors import ActivsparseError
from activsparse.pictures import open_picture

__all__ = ["VOC_CLASSES", "Coco", "Voc"]

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip


# What a missing or broken picture or a broken annotation raises.
_BEYOND = 0.5
"""How far boxes may reach beyond a picture, as a share of it: annotators are not that exact."""

_DAMAGE = (AttributeError, KeyError, OSError, ParseError, TypeError, ValueError)


def _damaged(file: str | Path, error: Exception) -> ActivsparseError:
    cause = f"no {error}" if isinstance(error, KeyError) else str(error)
    return ActivsparseError(f"{file}: cannot be read ({cause}); repair it or leave it out")


def _sample(image: Any, boxes: Tensor, labels: list[int]) -> Sample:
    """A picture with its boxes (M, 4), cut at its borders; one without an area there is no object.

    Raises:
        ValueError: a box holds no numbers, is turned over, or is one of another picture.
    """
    width, height = image.size
    size = torch.tensor([width, height, width, height])
    shares = boxes / size
    for box, share in zip(boxes.tolist(), shares, strict=True):
        told = f"the box from {box[0]:g}, {box[1]:g} to {box[2]:g}, {box[3]:g}"
        if not share.isfinite().all() or box[2] < box[0] or box[3] < box[1]:
            raise ValueError(f"{told} has no extent")
        if share.min() < -_BEYOND or share.max() > 1 + _BEYOND:
            raise ValueError(f"{told} lies outside the picture, {width}x{height}")
    boxes = boxes.clamp(min=0).minimum(size)
    kept = (boxes[:, 2:] > boxes[:, :2]).all(1)
    numbers = torch.tensor(labels).long()
    return Sample(pil_to_tensor(image.convert("RGB")), boxes[kept], numbers[kept])


class Voc(Dataset[Sample]):
    """Pascal VOC: `root`/VOCdevkit/VOC<year>.

    Difficult objects are left out. Corners count pixels from 1 and are inclusive in the files.
    """

    num_classes = len(VOC_CLASSES)

    def __init__(self, root: str, image_set: str = "train", year: str = "2012") -> None:
        try:
            self._data = VOCDetection(root, year=year, image_set=image_set)
        except (RuntimeError, ValueError, OSError) as error:
            raise ActivsparseError(
                f"{root}: no Pascal VOC {year} there ({error}); put VOCdevkit into it"
            ) from error

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Sample:
        """Picture `index`."""
        try:
            return self._sample(*self._data[index])
        except _DAMAGE as error:
            raise _damaged(self._data.annotations[index], error) from error

    def _sample(self, image: Any, target: Any) -> Sample:
        found = [o for o in target["annotation"].get("object", []) if o.get("difficult") != "1"]
        corners = [[float(o["bndbox"][k]) for k in ("xmin", "ymin", "xmax", "ymax")] for o in found]
        boxes = torch.tensor(corners).reshape(-1, 4) - torch.tensor([1.0, 1.0, 0.0, 0.0])
        names = [o["name"] for o in found]
        for name in names:
            if name not in VOC_CLASSES:
                raise ValueError(f"{name!r} is none of Pascal VOC's {len(VOC_CLASSES)} classes")
        return _sample(image, boxes, [VOC_CLASSES.index(name) for name in names])


class Coco(Dataset[Sample]):
    """COCO: a folder of pictures and a JSON file of instances.

    Categories are numbered in the order of their ids; crowds are left out.

    Attributes:
        categories: name by id, in the order of the ids.
        num_classes: how many there are.
    """

    def __init__(self, root: str, annotations: str) -> None:
        if not Path(annotations).is_file():
            raise ActivsparseError(f"{annotations}: no such file; give COCO's instances JSON")
        try:
            with redirect_stdout(io.StringIO()):  # pycocotools prints
                self._data = CocoDetection(root, annotations)
        except ImportError as error:
            raise ActivsparseError(
                "reading COCO needs pycocotools, which is not installed; "
                "pip install 'activsparse[detect]'"
            ) from error
        except (*_DAMAGE, AssertionError) as error:
            raise _damaged(annotations, error) from error
        kinds = self._data.coco.cats
        if not kinds:
            raise ActivsparseError(f"{annotations}: has no categories; give COCO's instances JSON")
        self._objects = self._data.coco.imgToAnns
        self._require_own(annotations)
        self.categories = {key: kinds[key].get("name") for key in sorted(kinds)}
        self._labels = {key: i for i, key in enumerate(self.categories)}
        self.num_classes = len(self._labels)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Sample:
        """Picture `index`."""
        try:
            # By picture: numbers of objects need not be unique, and some programs write all 0.
            picture = self._data.ids[index]
            file = Path(self._data.root) / self._data.coco.imgs[picture]["file_name"]
            return self._sample(open_picture(file), self._objects.get(picture, []))
        except _DAMAGE as error:
            name = self._data.coco.imgs[self._data.ids[index]].get("file_name", f"picture {index}")
            raise _damaged(Path(self._data.root) / name, error) from error

    def _sample(self, image: Any, objects: Any) -> Sample:
        found = [o for o in objects if not o.get("iscrowd")]
        corners = [[float(value) for value in o["bbox"]] for o in found]
        if any(len(box) != 4 for box in corners):
            raise ValueError("a bbox is of 4 numbers")
        boxes = torch.tensor(corners).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        for o in found:
            if o["category_id"] not in self._labels:
                raise ValueError(f"category {o['category_id']!r} is none of the file's")
        return _sample(image, boxes, [self._labels[o["category_id"]] for o in found])

    def _require_own(self, annotations: str) -> None:
        """Whether pictures and categories have numbers of their own, and objects a picture's."""
        content = self._data.coco.dataset
        for kind in ("images", "categories"):
            numbers = [entry["id"] for entry in content.get(kind, [])]
            if kind == "categories" and not all(type(number) is int for number in numbers):
                raise ActivsparseError(f"{annotations}: {kind}: an id is no whole number; mend it")
            twice = [number for number, count in Counter(numbers).items() if count > 1]
            if twice:
                raise ActivsparseError(
                    f"{annotations}: {kind}: id {twice[0]!r} is there twice; give each its own"
                )
        if self._objects and not self._objects.keys() & self._data.coco.imgs.keys():
            raise ActivsparseError(
                f"{annotations}: no object's image_id is a picture's id; give both the same numbers"
            )
