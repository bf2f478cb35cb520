"""The 1797 handwritten digits that come inside scikit-learn: real images, no download."""

from __future__ import annotations

import torch
from torch.utils.data import TensorDataset

from activsparse.data.images import Images

__all__ = ["load_digits"]

_TEST = 450


def load_digits(root: str | None, image_size: tuple[int, int]) -> Images:
    """Digits of 8x8 pixels, resized bilinearly; a fixed random quarter is the test set."""
    from sklearn.datasets import load_digits as load

    data = load()
    images = torch.from_numpy(data.images).float()[:, None] * (255.0 / 16.0)
    images = torch.nn.functional.interpolate(images, image_size, mode="bilinear")
    pixels = images.round().clamp(0, 255).to(torch.uint8)
    labels = torch.from_numpy(data.target).long()
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    test, train = order[:_TEST], order[_TEST:]
    return Images(
        train=TensorDataset(pixels[train], labels[train]),
        test=TensorDataset(pixels[test], labels[test]),
        num_classes=10,
        channels=1,
        mean=(0.31,),
        std=(0.35,),
        small=True,
    )
