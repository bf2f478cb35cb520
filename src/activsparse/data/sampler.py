"""Training order and augmentation as pure functions of (seed, epoch, image)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

__all__ = ["EpochSampler", "FixedBatches", "Varied"]


def _seed(*parts: int) -> int:
    return int(np.random.SeedSequence(parts).generate_state(1, np.uint64)[0] >> 1)


class EpochSampler(Sampler[tuple[int, int]]):
    """Yields (epoch, index) in an order that depends on seed and epoch alone.

    Args:
        size: number of images.
        seed: of the order.
    """

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.seed = seed
        self.epoch = 0
        self.skip = 0
        self._rank, self._processes, self._used = 0, 1, size

    def share(self, rank: int, processes: int, used: int) -> None:
        """Yield every `processes`-th of the first `used` images of the order, from `rank` on."""
        self._rank, self._processes, self._used = rank, processes, used

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch; Lightning calls this."""
        if epoch != self.epoch:
            self.epoch, self.skip = epoch, 0

    def resume(self, epoch: int, skip: int) -> None:
        """Start within `epoch`, after `skip` images of it, those of all processes together."""
        self.epoch, self.skip = epoch, skip

    def __len__(self) -> int:
        return self._used // self._processes

    def __iter__(self) -> Iterator[tuple[int, int]]:
        generator = torch.Generator().manual_seed(_seed(self.seed, self.epoch))
        order = torch.randperm(self.size, generator=generator).tolist()
        for index in order[self.skip + self._rank : self._used : self._processes]:
            yield self.epoch, index


class FixedBatches(Sampler[list[int]]):
    """Batches of all images in order, each image in one process, equally many batches in each.

    Args:
        size: number of images.
        batch_size: largest batch.
        rank: of this process.
        processes: their number.
    """

    def __init__(self, size: int, batch_size: int, rank: int = 0, processes: int = 1) -> None:
        count = -(-size // (batch_size * processes))
        # Collective operations of a forward pass must meet in every process, so none may run out.
        parts = np.array_split(np.arange(size), count * processes)
        self.batches = [part.tolist() for part in parts[rank::processes]]

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)


class Varied(Dataset[tuple[Tensor, int]]):
    """Transforms images with random numbers that depend on (seed, epoch, index) alone.

    So neither the number of workers nor an interruption changes what is trained on.

    Args:
        dataset: images and labels.
        transform: takes its random numbers from torch's generator.
        seed: of the variation.
        batched: the same transform for whole batches, given indices and seeds, if there is one.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        transform: Callable[[Any], Tensor],
        seed: int,
        batched: Callable[[Sequence[int], Iterable[int]], tuple[Tensor, Tensor]] | None = None,
    ) -> None:
        self.dataset = dataset
        self.transform = transform
        self.seed = seed
        self.batched = batched

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, key: tuple[int, int]) -> tuple[Tensor, int]:
        epoch, index = key
        image, label = self.dataset[index]
        # The CPU generator alone: torch.manual_seed also visits all accelerators, at great cost.
        generator = torch.default_generator
        outside = generator.get_state()
        generator.manual_seed(_seed(self.seed, epoch, index + 1))
        try:
            return self.transform(image), int(label)
        finally:
            generator.set_state(outside)

    def __getitems__(self, keys: Sequence[tuple[int, int]]) -> list[tuple[Tensor, int]]:
        """A batch; data loaders ask for this one where it exists."""
        if self.batched is None:
            return [self[key] for key in keys]
        seeds = (_seed(self.seed, epoch, index + 1) for epoch, index in keys)
        images, labels = self.batched([index for _, index in keys], seeds)
        return list(zip(images, labels.tolist(), strict=True))
