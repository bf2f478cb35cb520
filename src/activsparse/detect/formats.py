"""Pictures with boxes in the formats of Pascal VOC and COCO, through torchvision's readers."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

import torch
from torch.utils.data import Dataset
from torchvision.datasets import CocoDetection, VOCDetection
from torchvision.transforms.v2.functional import pil_to_tensor

from activsparse.detect.sample import Sample
from activsparse.errors import ActivsparseError

__all__ = ["VOC_CLASSES", "Coco", "Voc"]

VOC_CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip


# What a missing or broken picture or a broken annotation raises.
_DAMAGE = (AttributeError, KeyError, OSError, ParseError, TypeError, ValueError)


def _damaged(file: str | Path, error: Exception) -> ActivsparseError:
    cause = f"no {error}" if isinstance(error, KeyError) else str(error)
    return ActivsparseError(f"{file}: cannot be read ({cause}); repair it or leave it out")


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
        numbers = {name: i for i, name in enumerate(VOC_CLASSES)}
        labels = [numbers[o["name"]] for o in found]
        return Sample(pil_to_tensor(image.convert("RGB")), boxes, torch.tensor(labels).long())


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
        self.categories = dict(sorted((k, v.get("name")) for k, v in self._data.coco.cats.items()))
        if not self.categories:
            raise ActivsparseError(f"{annotations}: has no categories; give COCO's instances JSON")
        self._labels = {key: i for i, key in enumerate(self.categories)}
        self.num_classes = len(self._labels)

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Sample:
        """Picture `index`."""
        try:
            return self._sample(*self._data[index])
        except _DAMAGE as error:
            name = self._data.coco.imgs[self._data.ids[index]].get("file_name", f"picture {index}")
            raise _damaged(Path(self._data.root) / name, error) from error

    def _sample(self, image: Any, objects: Any) -> Sample:
        found = [o for o in objects if not o.get("iscrowd")]
        boxes = torch.tensor([o["bbox"] for o in found], dtype=torch.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = [self._labels[o["category_id"]] for o in found]
        return Sample(pil_to_tensor(image.convert("RGB")), boxes, torch.tensor(labels).long())
