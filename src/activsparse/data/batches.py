"""What every data module shares: batches in an order that can be resumed and shared out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, Dataset, Subset

from activsparse.data.sampler import EpochSampler, FixedBatches
from activsparse.distributed import rank, world_size
from activsparse.errors import ActivsparseError, Setting

__all__ = ["BatchData", "size_of"]


class BatchData(pl.LightningDataModule):
    """Training, validation and test batches of pairs (images, targets).

    Images are (N, C, H, W) float32, normalised. The validation images never come from the test
    set, which is for the final number only. Under torch.distributed each process gets its part of
    every batch, so that all of them together train on what one alone would.

    Attributes:
        num_classes: labels are 0 .. num_classes - 1.
        shape: (C, H, W) of an image.
        steps_per_epoch: training batches; the last incomplete one is left out.
        has_test: whether there are test images.
        mean: what was subtracted from values in [0, 1], per channel.
        std: what they were then divided by.

    Args:
        train: takes keys (epoch, index).
        validation: takes indices.
        test: alike; None where there is none.
        batch_size: images per step, of all processes together.
        seed: of the order.
        workers: processes that load images.
        unvaried: the training images without variation; takes indices.
        collate: makes a batch of a list of samples; None as torch does.

    Raises:
        ActivsparseError: too few images for a batch.
    """

    num_classes: int
    shape: tuple[int, int, int]
    mean: Sequence[float]
    std: Sequence[float]

    def __init__(
        self,
        train: Dataset[Any],
        validation: Dataset[Any],
        test: Dataset[Any] | None,
        batch_size: int,
        *,
        unvaried: Dataset[Any],
        seed: int,
        workers: int,
        collate: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__()
        if size_of(train) < batch_size:
            raise ActivsparseError(
                f"{size_of(train)} training images do not fill a batch of {batch_size}; lower ",
                Setting("data.batch_size"),
            )
        self._train, self._validation, self._test = train, validation, test
        self._unvaried = unvaried
        self._options: dict[str, Any] = {
            "num_workers": workers,
            "collate_fn": collate,
            # Starting workers takes seconds, and copies from pinned memory overlap with work.
            "persistent_workers": workers > 0,
            "pin_memory": torch.cuda.is_available(),
            # Loading must not draw from the stream of dropout and mixtures, least of all once per
            # start of workers: a resumed run starts them anew.
            "generator": torch.Generator(),
        }
        self._sampler = EpochSampler(size_of(train), seed)
        self.batch_size = batch_size
        self.steps_per_epoch = size_of(train) // batch_size
        self.has_test = test is not None

    def resume(self, epoch: int, batches: int) -> None:
        """Let training start within `epoch`, after `batches` of its batches."""
        self._sampler.resume(epoch, batches * self.batch_size)

    def samples(self) -> Iterator[Any]:
        """Every image as it is, with its target: of training, validation and test.

        Raises:
            ActivsparseError: one that cannot be read.
        """
        for part in self._parts():
            yield from (part[index] for index in range(size_of(part)))

    @property
    def size(self) -> int:
        """How many images there are."""
        return sum(map(size_of, self._parts()))

    def _parts(self) -> list[Dataset[Any]]:
        parts = (self._unvaried, self._validation, self._test)
        return [part for part in parts if part is not None]

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
            **self._options,
        )

    def val_dataloader(self) -> DataLoader[Any]:
        """Held-out images in a fixed order."""
        return self._plain_loader(self._validation)

    def test_dataloader(self) -> DataLoader[Any]:
        """Test images in a fixed order; the held-out ones where there are none."""
        return self._plain_loader(self._test or self._validation)

    def unvaried_dataloader(self, batches: int) -> DataLoader[Any]:
        """Training images as they are, at most so many batches: the same ones each time.

        For what looks at the network besides training it: held-out images choose the best state,
        and would not be held out from what they have shaped.
        """
        generator = torch.Generator().manual_seed(0)
        size = size_of(self._unvaried)
        count = min(size, batches * max(self.batch_size, 128) * world_size())
        order = torch.randperm(size, generator=generator)[:count].tolist()
        return self._plain_loader(Subset(self._unvaried, order))

    def _plain_loader(self, dataset: Dataset[Any]) -> DataLoader[Any]:
        batches = FixedBatches(size_of(dataset), max(self.batch_size, 128), rank(), world_size())
        return DataLoader(dataset, batch_sampler=batches, **self._options)


def size_of(dataset: Dataset[Any]) -> int:
    """Number of its samples."""
    return len(dataset)  # type: ignore[arg-type]
