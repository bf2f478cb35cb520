"""Any `Images` as a Lightning data module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from activsparse.data.augment import Augmentation, plain, shifted, statistics, varied
from activsparse.data.images import Images
from activsparse.data.sampler import EpochSampler, FixedBatches, Varied
from activsparse.errors import ActivsparseError
from activsparse.train.distributed import rank, world_size

__all__ = ["ImageData"]


class ImageData(pl.LightningDataModule):
    """Training, validation and test batches (N, C, H, W) float32, normalised, with labels (N,).

    The validation images never come from the test set, which is for the final number only. Under
    torch.distributed each process gets its part of every batch, so that all of them together train
    on what one alone would.

    Attributes:
        num_classes: labels are 0 .. num_classes - 1.
        shape: (C, H, W) of an image.
        steps_per_epoch: training batches; the last incomplete one is left out.
        has_test: whether there are test images.
        mean: what was subtracted from values in [0, 1], per channel.
        std: what they were then divided by.
    """

    def __init__(
        self,
        images: Images,
        image_size: tuple[int, int],
        batch_size: int,
        *,
        channels: int | None,
        augmentation: Augmentation,
        validation: float,
        workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.num_classes = images.num_classes
        self.shape = (channels or images.channels, *image_size)
        self.batch_size = batch_size
        self.workers = workers
        self.mean, self.std = statistics(images, self.shape[0])
        train, held_out = images.train, images.validation
        if held_out is None:
            train, held_out = _split(images.train, validation)
        if _size(train) < batch_size:
            raise ActivsparseError(
                f"{_size(train)} training images do not fill a batch of {batch_size}; "
                "lower data.batch_size"
            )
        unchanged = plain(images, self.shape)
        batched = shifted(train, images, self.shape, augmentation)
        self._train = Varied(train, varied(images, self.shape, augmentation), seed, batched)
        self._validation = _Plain(held_out, unchanged)
        self._test = None if images.test is None else _Plain(images.test, unchanged)
        self._sampler = EpochSampler(len(self._train), seed)
        self.steps_per_epoch = len(self._train) // batch_size
        self.has_test = self._test is not None

    def resume(self, epoch: int, batches: int) -> None:
        """Let training start within `epoch`, after `batches` of its batches."""
        self._sampler.resume(epoch, batches * self.batch_size)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in an order given by (seed, epoch).

        Raises:
            ActivsparseError: the batch size cannot be shared out evenly to all processes.
        """
        processes = world_size()
        if self.batch_size % processes:
            raise ActivsparseError(
                f"data.batch_size {self.batch_size} is the number of images of all {processes} "
                f"processes together; choose a multiple of {processes}"
            )
        # Image i of each batch goes to process i % processes.
        self._sampler.share(rank(), processes, self.steps_per_epoch * self.batch_size)
        return DataLoader(
            self._train,
            self.batch_size // processes,
            sampler=self._sampler,
            drop_last=True,
            num_workers=self.workers,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Held-out images in a fixed order."""
        return self._plain_loader(self._validation)

    def test_dataloader(self) -> DataLoader[Any]:
        """Test images in a fixed order; the held-out ones where there are none."""
        return self._plain_loader(self._test or self._validation)

    def _plain_loader(self, dataset: Dataset[Any]) -> DataLoader[Any]:
        batches = FixedBatches(_size(dataset), max(self.batch_size, 128), rank(), world_size())
        return DataLoader(dataset, batch_sampler=batches, num_workers=self.workers)


class _Plain(Dataset[tuple[Tensor, int]]):
    """Images without variation."""

    def __init__(self, dataset: Dataset[Any], transform: Callable[[Any], Tensor]) -> None:
        self.dataset = dataset
        self.transform = transform

    def __len__(self) -> int:
        return _size(self.dataset)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.dataset[index]
        return self.transform(image), int(label)


def _size(dataset: Dataset[Any]) -> int:
    return len(dataset)  # type: ignore[arg-type]


def _split(dataset: Dataset[Any], share: float) -> tuple[Dataset[Any], Dataset[Any]]:
    """The same split in every run, whatever its seed, so that runs can be compared."""
    order = torch.randperm(_size(dataset), generator=torch.Generator().manual_seed(0)).tolist()
    held_out = max(1, round(share * len(order)))
    return Subset(dataset, order[held_out:]), Subset(dataset, order[:held_out])
