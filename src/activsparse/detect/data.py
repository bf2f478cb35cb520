"""Pictures with boxes as batches for training and evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.ops import box_convert

from activsparse.data.sampler import EpochSampler, FixedBatches, _seed
from activsparse.detect.sample import Sample, flipped, letterboxed, mosaic, recoloured

__all__ = ["Cached", "DetectionData", "collate", "measured_sizes"]

Batch = tuple[Tensor, Tensor]


class Cached(Dataset[Sample]):
    """Keeps every picture of a data set once it was asked for."""

    def __init__(self, dataset: Dataset[Sample]) -> None:
        self.dataset = dataset
        self.kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Sample:
        """Picture `index`."""
        if index not in self.kept:
            self.kept[index] = self.dataset[index]
        return self.kept[index]


class _Varied(Dataset[Sample]):
    """Mosaics, flips and colours; a picture is a pure function of (seed, epoch, index)."""

    def __init__(
        self, dataset: Dataset[Sample], size: tuple[int, int], seed: int, share: float
    ) -> None:
        self.dataset, self.size, self.seed, self.share = dataset, size, seed, share

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, key: tuple[int, int]) -> Sample:
        epoch, index = key
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
        return len(self.dataset)  # type: ignore[arg-type]

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


def measured_sizes(
    dataset: Dataset[Sample], size: tuple[int, int], most: int = 1000
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """Widths and heights (M, 2) of the boxes of at most `most` pictures, fitted to `size`."""
    count = min(len(dataset), most)  # type: ignore[arg-type]
    fitted = _Fitted(dataset, size)
    boxes = torch.cat([fitted[i].boxes for i in range(count)])
    sizes: np.ndarray[Any, np.dtype[np.float32]] = (boxes[:, 2:] - boxes[:, :2]).numpy()
    return sizes


class DetectionData(pl.LightningDataModule):
    """Batches of `collate`.

    Args:
        train: pictures to train on.
        validation: pictures to evaluate.
        size: (H, W) all are fitted to.
        batch_size: pictures of a batch.
        seed: of order and augmentation.
        workers: processes that prepare batches.
        mosaic: share of training pictures that are put together from four.
    """

    def __init__(
        self,
        train: Dataset[Sample],
        validation: Dataset[Sample],
        size: tuple[int, int],
        batch_size: int,
        *,
        seed: int = 0,
        workers: int = 0,
        mosaic: float = 0.5,
    ) -> None:
        super().__init__()
        self.train, self.validation = _Varied(train, size, seed, mosaic), _Fitted(validation, size)
        self.batch_size, self.workers = batch_size, workers
        self.sampler = EpochSampler(len(self.train), seed)

    @property
    def steps_per_epoch(self) -> int:
        """Training batches; the last incomplete one is left out."""
        return len(self.train) // self.batch_size

    def train_dataloader(self) -> DataLoader[Any]:
        """Augmented, in an order of the epoch's own."""
        return DataLoader(
            self.train,
            self.batch_size,
            sampler=self.sampler,
            drop_last=True,
            collate_fn=collate,
            num_workers=self.workers,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """As they are, in order."""
        batches = FixedBatches(len(self.validation), self.batch_size)
        return DataLoader(self.validation, batch_sampler=batches, collate_fn=collate)
