"""Pictures with boxes as batches for training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.ops import box_convert

from activsparse.data.batches import BatchData, size_of
from activsparse.data.sampler import _seed
from activsparse.detect.anchors import Sizes
from activsparse.detect.sample import Sample, flipped, letterboxed, mosaic, recoloured
from activsparse.errors import ActivsparseError
from activsparse.models.yolov5 import STRIDES

__all__ = ["Cached", "DetectionData", "collate"]

Batch = tuple[Tensor, Tensor]


class Cached(Dataset[Sample]):
    """Keeps every picture of a data set once it was asked for."""

    def __init__(self, dataset: Dataset[Sample]) -> None:
        self.dataset = dataset
        self.kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return size_of(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        """Picture `index`."""
        if index not in self.kept:
            self.kept[index] = self.dataset[index]
        return self.kept[index]


class _Varied(Dataset[Sample]):
    """Mosaics, flips and colours; a picture is a pure function of (seed, epoch, index)."""

    def __init__(
        self, dataset: Dataset[Sample], size: tuple[int, int], seed: int, share: float | None
    ) -> None:
        self.dataset, self.size, self.seed, self.share = dataset, size, seed, share

    def __len__(self) -> int:
        return size_of(self.dataset)

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
        if self.share is None:
            return letterboxed(self.dataset[index], self.size)[0]
        generator = torch.Generator().manual_seed(_seed(self.seed, epoch, index + 1))
        if torch.rand((), generator=generator) < self.share:
            others = torch.randint(len(self), (3,), generator=generator).tolist()
            four = [self.dataset[i] for i in (index, *others)]
            sample = mosaic(four, self.size, generator)
        else:
            sample, _ = letterboxed(self.dataset[index], self.size)
        if torch.rand((), generator=generator) < 0.5:
            sample = flipped(sample)
        return recoloured(sample, generator)


class _Fitted(Dataset[Sample]):
    def __init__(self, dataset: Dataset[Sample], size: tuple[int, int]) -> None:
        self.dataset, self.size = dataset, size

    def __len__(self) -> int:
        return size_of(self.dataset)

    def __getitem__(self, index: int) -> Sample:
        return letterboxed(self.dataset[index], self.size)[0]


def collate(samples: Sequence[Sample]) -> Batch:
    """Images (N, C, H, W) in [0, 1], and targets (M, 6): image, label, centre, size in pixels."""
    images = torch.stack([sample.image for sample in samples]).float() / 255
    rows = []
    for i, sample in enumerate(samples):
        boxes = box_convert(sample.boxes, "xyxy", "cxcywh")
        number = torch.full((len(boxes), 1), float(i))
        rows.append(torch.cat([number, sample.labels[:, None].float(), boxes], 1))
    return images, torch.cat(rows)


class DetectionData(BatchData):
    """Batches of `collate`, values in [0, 1].

    Args:
        train: pictures to train on.
        validation: pictures to choose by.
        test: pictures for the final figure; None where there are none.
        num_classes: labels are 0 .. num_classes - 1.
        size: (H, W) all are fitted to.
        batch_size: pictures of a step.
        seed: of order and augmentation.
        workers: processes that prepare batches.
        mosaic: share of training pictures that are put together from four; None varies none.
        classes: their names, if they have any.

    Raises:
        ActivsparseError: a size that the detector's strides do not divide.
    """

    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

    def __init__(
        self,
        train: Dataset[Sample],
        validation: Dataset[Sample],
        test: Dataset[Sample] | None,
        num_classes: int,
        size: tuple[int, int],
        batch_size: int,
        *,
        seed: int = 0,
        workers: int = 0,
        mosaic: float | None = 0.5,
        classes: Sequence[str] = (),
    ) -> None:
        if any(side % STRIDES[-1] for side in size):
            raise ActivsparseError(
                f"data.image_size {size[0]}x{size[1]}: detectors need multiples of {STRIDES[-1]}"
            )
        super().__init__(
            _Varied(train, size, seed, mosaic),
            _Fitted(validation, size),
            None if test is None else _Fitted(test, size),
            batch_size,
            unvaried=_Fitted(train, size),
            seed=seed,
            workers=workers,
            collate=collate,
        )
        self.pictures, self.num_classes, self.shape = train, num_classes, (3, *size)
        self.classes = tuple(classes)

    def box_sizes(self, most: int = 1000) -> Sizes:
        """Widths and heights (M, 2) of the boxes of at most `most` training pictures, fitted."""
        fitted = _Fitted(self.pictures, self.shape[1:])
        boxes = torch.cat([fitted[i].boxes for i in range(min(size_of(self.pictures), most))])
        sizes: Sizes = (boxes[:, 2:] - boxes[:, :2]).numpy()
        return sizes
