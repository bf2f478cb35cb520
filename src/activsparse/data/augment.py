"""From an image of a data set to a normalised tensor: torchvision v2's transforms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from activsparse.data.images import Images
from activsparse.data.shift import ShiftedBatches, tensors_of

__all__ = ["AUTO_AUGMENT", "Augmentation", "plain", "shifted", "statistics", "varied"]

AUTO_AUGMENT: dict[str, Callable[[], Any]] = {
    "trivial": v2.TrivialAugmentWide,
    "rand": v2.RandAugment,
    "auto": v2.AutoAugment,
}

Transform = Callable[[Any], Tensor]


@dataclass(frozen=True)
class Augmentation:
    """How training images are varied.

    Attributes:
        basic: shifts or crops, and mirroring where it is harmless.
        crop: share of an image's area that a random crop shows at least; 1 crops nothing. Small
            images are shifted instead.
        auto: a policy of `AUTO_AUGMENT` on top, or None.
        erasing: probability that a rectangle is blanked.
    """

    basic: bool = True
    crop: float = 0.08
    auto: str | None = None
    erasing: float = 0.0


def plain(images: Images, shape: tuple[int, int, int]) -> Transform:
    """For evaluation: the middle of an image, float32 (C, H, W), normalised."""
    return _pipeline(images, shape, _centre(images, shape), [])


def varied(images: Images, shape: tuple[int, int, int], how: Augmentation) -> Transform:
    """For training; takes its random numbers from torch's generator."""
    size = shape[1:]
    steps: list[Any] = _centre(images, shape)
    if how.basic and images.small:
        steps = [v2.RandomCrop(size, padding=_margin((shape[1], shape[2])))]
    elif how.basic and how.crop < 1:
        steps = [v2.RandomResizedCrop(size, scale=(how.crop, 1.0))]
    if how.basic and images.flip:
        steps.append(v2.RandomHorizontalFlip())
    if how.auto is not None:
        steps.append(AUTO_AUGMENT[how.auto]())
    return _pipeline(images, shape, steps, [v2.RandomErasing(how.erasing)] if how.erasing else [])


def shifted(
    dataset: Dataset[Any], images: Images, shape: tuple[int, int, int], how: Augmentation
) -> ShiftedBatches | None:
    """`varied` for whole batches of `dataset`, where it only shifts and mirrors; else None."""
    tensors = tensors_of(dataset)
    plain_shift = images.small and how.basic and how.auto is None and not how.erasing
    if tensors is None or not plain_shift or tuple(tensors[0].shape[1:]) != shape:
        return None
    normalise = _Normalise(*statistics(images, shape[0]))
    margin = _margin((shape[1], shape[2]))
    return ShiftedBatches(*tensors, margin, images.flip, normalise.scale, normalise.shift)


def statistics(images: Images, channels: int) -> tuple[list[float], list[float]]:
    """Mean and deviation per channel of images that are converted to `channels`."""
    mean, std = list(images.mean), list(images.std)
    if len(mean) != channels:
        mean, std = [sum(mean) / len(mean)] * channels, [sum(std) / len(std)] * channels
    return mean, std


def _margin(size: tuple[int, int]) -> int:
    return max(1, min(size) // 14)


def _centre(images: Images, shape: tuple[int, int, int]) -> list[Any]:
    # The usual margin: the short side is an eighth larger than the crop.
    size = shape[1:]
    return [] if images.small else [v2.Resize(round(max(size) * 8 / 7)), v2.CenterCrop(size)]


def _pipeline(
    images: Images, shape: tuple[int, int, int], steps: list[Any], after: list[Any]
) -> Transform:
    convert = [v2.Grayscale(1)] if shape[0] == 1 else [v2.RGB()]
    # Small images are tensors already; each needless transform costs as much as a crop.
    before = [] if images.small else [v2.ToImage()]
    same = images.small and shape[0] == images.channels
    normalise = _Normalise(*statistics(images, shape[0]))
    pipeline: Transform = v2.Compose(
        [*before, *([] if same else convert), *steps, normalise, *after]
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
