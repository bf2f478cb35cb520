"""Any `Images` as a Lightning data module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from activsparse.data.augment import Augmentation, plain, shifted, statistics, varied
from activsparse.data.batches import BatchData, size_of
from activsparse.data.images import Images
from activsparse.data.sampler import Varied

__all__ = ["ImageData"]


class ImageData(BatchData):
    """Images with one label each, (N,) int64.

    Attributes:
        classes: names of the labels; empty where the data set has none.

    Args:
        at_train_size: the same images for another size (H, W), and that size: that of varied
            training images. None to vary `images` at `image_size`.
    """

    def __init__(
        self,
        images: Images,
        image_size: tuple[int, int],
        batch_size: int,
        *,
        at_train_size: tuple[Images, tuple[int, int]] | None = None,
        channels: int | None,
        augmentation: Augmentation,
        validation: float,
        limit: int | None = None,
        workers: int,
        seed: int,
    ) -> None:
        shape = (channels or images.channels, *image_size)
        train, held_out = _parts(images, validation, limit)
        test = None if images.test is None else first(images.test, limit)
        unchanged = plain(images, shape)
        source, to_vary, size = images, train, image_size
        if at_train_size is not None:
            source, size = at_train_size
            to_vary, _ = _parts(source, validation, limit)
        trained = (shape[0], *size)
        batched = shifted(to_vary, source, trained, augmentation)
        super().__init__(
            Varied(to_vary, varied(source, trained, augmentation), seed, batched),
            _Plain(held_out, unchanged),
            None if test is None else _Plain(test, unchanged),
            batch_size,
            unvaried=_Plain(train, unchanged),
            seed=seed,
            workers=workers,
        )
        self.num_classes, self.shape = images.num_classes, shape
        self.classes = images.classes
        self.mean, self.std = statistics(images, shape[0])


class _Plain(Dataset[tuple[Tensor, int]]):
    """Images without variation."""

    def __init__(self, dataset: Dataset[Any], transform: Callable[[Any], Tensor]) -> None:
        self.dataset = dataset
        self.transform = transform

    def __len__(self) -> int:
        return size_of(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.dataset[index]
        return self.transform(image), int(label)


def _parts(
    images: Images, validation: float, limit: int | None
) -> tuple[Dataset[Any], Dataset[Any]]:
    """Training and held-out images."""
    train, held_out = images.train, images.validation
    if held_out is None:
        train, held_out = split(images.train, validation)
    return first(train, limit), first(held_out, limit)


def first(dataset: Dataset[Any], count: int | None) -> Dataset[Any]:
    """At most so many of the samples, always the same ones, whatever order they are listed in."""
    if count is None:
        return dataset
    order = torch.randperm(size_of(dataset), generator=torch.Generator().manual_seed(0)).tolist()
    return Subset(dataset, order[:count]) if count < len(order) else dataset


def split(dataset: Dataset[Any], share: float) -> tuple[Dataset[Any], Dataset[Any]]:
    """The same split in every run, whatever its seed, so that runs can be compared."""
    order = torch.randperm(size_of(dataset), generator=torch.Generator().manual_seed(0)).tolist()
    held_out = max(1, round(share * len(order)))
    return Subset(dataset, order[held_out:]), Subset(dataset, order[:held_out])
