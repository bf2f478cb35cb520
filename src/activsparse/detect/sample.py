"""A picture with boxes, and what is done to both together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

__all__ = ["Letterbox", "Sample", "flipped", "letterboxed", "mosaic", "recoloured"]

GREY = 114
"""What borders are filled with."""

_SMALLEST = 3.0  # pixels: what a crop leaves of a box below this is no object any more
_VISIBLE = 0.2  # and neither is a smaller share of its area


@dataclass(frozen=True)
class Sample:
    """A picture and its objects.

    Attributes:
        image: (C, H, W) uint8.
        boxes: (M, 4) float32: left, top, right, bottom in pixels.
        labels: (M,) int64, 0 .. classes - 1.
    """

    image: Tensor
    boxes: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Letterbox:
    """How a picture was fitted: position x of the original lies at x * scale + left."""

    scale: float
    left: int
    top: int

    def back(self, boxes: Tensor) -> Tensor:
        """Boxes (M, 4) of the fitted picture, in pixels of the original."""
        shift = boxes.new_tensor([self.left, self.top, self.left, self.top])
        return (boxes - shift) / self.scale


def letterboxed(sample: Sample, size: tuple[int, int]) -> tuple[Sample, Letterbox]:
    """Fit a picture into (H, W) without changing its proportions; grey borders fill the rest."""
    channels, h, w = sample.image.shape
    scale = min(size[0] / h, size[1] / w)
    inner = max(round(h * scale), 1), max(round(w * scale), 1)
    top, left = (size[0] - inner[0]) // 2, (size[1] - inner[1]) // 2
    image = sample.image.new_full((channels, *size), GREY)
    image[:, top : top + inner[0], left : left + inner[1]] = _resized(sample.image, inner)
    shift = sample.boxes.new_tensor([left, top, left, top])
    return Sample(image, sample.boxes * scale + shift, sample.labels), Letterbox(scale, left, top)


def _resized(image: Tensor, size: tuple[int, int]) -> Tensor:
    if image.shape[1:] == size:
        return image
    # On bytes as they are: several times as fast as through floats.
    return functional.interpolate(image[None], size, mode="bilinear", antialias=True)[0]


def mosaic(samples: Sequence[Sample], size: tuple[int, int], generator: torch.Generator) -> Sample:
    """Four pictures around a random point of an (H, W) canvas, each scaled at random and cut off.

    Boxes of which little is left are dropped.
    """
    h, w = size
    x0, y0 = (int((0.3 + 0.4 * _uniform(generator)) * length) for length in (w, h))
    image = samples[0].image.new_full((samples[0].image.shape[0], h, w), GREY)
    boxes, labels = [], []
    for corner, sample in enumerate(samples):
        _, rows, columns = sample.image.shape
        scale = (0.6 + 0.7 * _uniform(generator)) * min(h / rows, w / columns)
        inner = max(round(rows * scale), 1), max(round(columns * scale), 1)
        part = _resized(sample.image, inner)
        left = x0 - inner[1] if corner % 2 == 0 else x0
        top = y0 - inner[0] if corner < 2 else y0
        clip = (
            (max(left, 0), min(left + inner[1], x0 if corner % 2 == 0 else w)),
            (max(top, 0), min(top + inner[0], y0 if corner < 2 else h)),
        )
        (x1, x2), (y1, y2) = clip
        image[:, y1:y2, x1:x2] = part[:, y1 - top : y2 - top, x1 - left : x2 - left]
        moved = sample.boxes * scale + sample.boxes.new_tensor([left, top, left, top])
        kept, whole = _clipped(moved, x1, y1, x2, y2)
        boxes.append(kept[whole])
        labels.append(sample.labels[whole])
    return Sample(image, torch.cat(boxes), torch.cat(labels))


def _clipped(boxes: Tensor, x1: int, y1: int, x2: int, y2: int) -> tuple[Tensor, Tensor]:
    low, high = boxes.new_tensor([x1, y1, x1, y1]), boxes.new_tensor([x2, y2, x2, y2])
    kept = torch.minimum(torch.maximum(boxes, low), high)
    size, full = kept[:, 2:] - kept[:, :2], boxes[:, 2:] - boxes[:, :2]
    visible = size.prod(1) / full.prod(1).clamp(min=1e-6)
    return kept, (size.min(1).values >= _SMALLEST) & (visible >= _VISIBLE)


def flipped(sample: Sample) -> Sample:
    """Left and right swapped."""
    width = sample.image.shape[2]
    boxes = sample.boxes.clone()
    boxes[:, [0, 2]] = width - sample.boxes[:, [2, 0]]
    return Sample(sample.image.flip(2), boxes, sample.labels)


def recoloured(sample: Sample, generator: torch.Generator, strength: float = 0.4) -> Sample:
    """Brightness, contrast and colour balance changed at random."""
    image = sample.image.float()
    gain = 1 + strength * (2 * _uniform(generator) - 1)
    balance = 1 + strength / 2 * (2 * torch.rand(len(image), 1, 1, generator=generator) - 1)
    mean = image.mean()
    image = (image - mean) * gain + mean * (1 + strength * (2 * _uniform(generator) - 1))
    pixels = (image * balance).round().clamp(0, 255).to(torch.uint8)
    return Sample(pixels, sample.boxes, sample.labels)


def _uniform(generator: torch.Generator) -> float:
    return float(torch.rand((), generator=generator))
