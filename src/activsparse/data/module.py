"""Any `Images` as a Lightning data module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision.transforms import v2

from activsparse.data.images import Images
from activsparse.data.sampler import EpochSampler, Varied
from activsparse.errors import ActivsparseError

__all__ = ["ImageData"]


class ImageData(pl.LightningDataModule):
    """Training, validation and test batches (N, C, H, W) float32, normalised, with labels (N,).

    The validation images never come from the test set, which is for the final number only.

    Attributes:
        num_classes: labels are 0 .. num_classes - 1.
        shape: (C, H, W) of an image.
        steps_per_epoch: training batches; the last incomplete one is left out.
        has_test: whether there are test images.
    """

    def __init__(
        self,
        images: Images,
        image_size: tuple[int, int],
        batch_size: int,
        *,
        channels: int | None,
        augment: bool,
        validation: float,
        workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.num_classes = images.num_classes
        self.shape = (channels or images.channels, *image_size)
        self.batch_size = batch_size
        self.workers = workers
        train, held_out = images.train, images.validation
        if held_out is None:
            train, held_out = _split(images.train, validation)
        if _size(train) < batch_size:
            raise ActivsparseError(
                f"{_size(train)} training images do not fill a batch of {batch_size}; "
                "lower data.batch_size"
            )
        plain = _plain(images, self.shape)
        self._train = Varied(train, _varied(images, self.shape) if augment else plain, seed)
        self._validation = _Plain(held_out, plain)
        self._test = None if images.test is None else _Plain(images.test, plain)
        self._sampler = EpochSampler(len(self._train), seed)
        self.steps_per_epoch = len(self._train) // batch_size
        self.has_test = self._test is not None

    def resume(self, epoch: int, batches: int) -> None:
        """Let training start within `epoch`, after `batches` of its batches."""
        self._sampler.resume(epoch, batches * self.batch_size)

    def train_dataloader(self) -> DataLoader[Any]:
        """Batches in an order given by (seed, epoch)."""
        return DataLoader(
            self._train,
            self.batch_size,
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
        return DataLoader(dataset, max(self.batch_size, 128), num_workers=self.workers)


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


def _plain(images: Images, shape: tuple[int, int, int]) -> Callable[[Any], Tensor]:
    size = shape[1:]
    # The usual margin: the short side is an eighth larger than the crop.
    scale = [] if images.small else [v2.Resize(round(max(size) * 8 / 7)), v2.CenterCrop(size)]
    return _pipeline(images, shape, scale)


def _varied(images: Images, shape: tuple[int, int, int]) -> Callable[[Any], Tensor]:
    size = shape[1:]
    steps: list[Any] = (
        [v2.RandomCrop(size, padding=max(1, min(size) // 14))]
        if images.small
        else [v2.RandomResizedCrop(size)]
    )
    if images.flip:
        steps.append(v2.RandomHorizontalFlip())
    return _pipeline(images, shape, steps)


def _pipeline(
    images: Images, shape: tuple[int, int, int], steps: list[Any]
) -> Callable[[Any], Tensor]:
    convert = [v2.Grayscale(1)] if shape[0] == 1 else [v2.RGB()]
    mean, std = list(images.mean), list(images.std)
    if len(mean) != shape[0]:
        mean, std = [sum(mean) / len(mean)] * shape[0], [sum(std) / len(std)] * shape[0]
    # Small images are tensors already; each needless transform costs as much as a crop.
    before = [] if images.small else [v2.ToImage()]
    same = images.small and shape[0] == images.channels
    pipeline: Callable[[Any], Tensor] = v2.Compose(
        [*before, *([] if same else convert), *steps, _Normalise(mean, std)]
    )
    return pipeline


class _Normalise:
    """uint8 (C, H, W) to float32 of zero mean and unit deviation; one step where v2 needs two."""

    def __init__(self, mean: list[float], std: list[float]) -> None:
        deviation = torch.tensor(std)[:, None, None]
        self.scale = 1 / (255 * deviation)
        self.shift = torch.tensor(mean)[:, None, None] / deviation

    def __call__(self, image: Tensor) -> Tensor:
        return image.as_subclass(Tensor) * self.scale - self.shift
