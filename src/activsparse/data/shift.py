"""Shifting and mirroring small images a whole batch at a time.

What `augment.varied` does to small images one by one, with the same random numbers and so the same
result, bit for bit, in a sixth of the time: per image only the random numbers are left.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

__all__ = ["ShiftedBatches", "tensors_of"]


class ShiftedBatches:
    """Batches of images of a data set that fits into memory, each image varied by its own seed.

    Args:
        images: uint8 (N, C, H, W).
        labels: int64 (N,).
        margin: how far images are shifted at most; zeros come in.
        flip: whether half of them are mirrored.
        scale: float (C, 1, 1), and
        shift: alike: pixels become `scale * pixel - shift`.
    """

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        margin: int,
        flip: bool,
        scale: Tensor,
        shift: Tensor,
    ) -> None:
        self.images = torch.nn.functional.pad(images, (margin,) * 4)
        self.labels = labels
        self.size = (int(images.shape[2]), int(images.shape[3]))
        self.margin = margin
        self.flip = flip
        self.scale, self.shift = scale, shift
        self._generator = torch.Generator()

    def __call__(self, indices: Sequence[int], seeds: Iterable[int]) -> tuple[Tensor, Tensor]:
        """Float32 images (B, C, H, W) and labels (B,) of `indices`."""
        moves = np.array([self._draw(seed) for seed in seeds])
        top, left, mirrored = moves.T[:, :, None]
        height, width = self.size
        rows = torch.from_numpy(top + np.arange(height))
        across = np.where(mirrored, np.arange(width)[::-1], np.arange(width))
        columns = torch.from_numpy(left + across)
        which = torch.as_tensor(indices)
        pixels = self.images[which[:, None, None], :, rows[:, :, None], columns[:, None, :]]
        return pixels.permute(0, 3, 1, 2) * self.scale - self.shift, self.labels[which]

    def _draw(self, seed: int) -> tuple[int, int, bool]:
        """Top, left and whether mirrored, drawn as v2.RandomCrop and v2.RandomHorizontalFlip do."""
        generator = self._generator.manual_seed(seed)
        top, left = (
            int(torch.randint(0, 2 * self.margin + 1, (1,), generator=generator)) for _ in range(2)
        )
        mirrored = self.flip and bool(torch.rand(1, generator=generator) < 0.5)
        return top, left, mirrored


def tensors_of(dataset: Dataset[Any]) -> tuple[Tensor, Tensor] | None:
    """Images and labels of a data set that is two tensors, or a part of one; else None."""
    if isinstance(dataset, Subset):
        whole = tensors_of(dataset.dataset)
        if whole is None:
            return None
        chosen = torch.as_tensor(dataset.indices)
        return whole[0][chosen], whole[1][chosen]
    if isinstance(dataset, TensorDataset) and len(dataset.tensors) == 2:
        return dataset.tensors[0], dataset.tensors[1]
    return None
