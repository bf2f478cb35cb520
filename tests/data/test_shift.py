"""Batches of shifted images equal those varied one by one."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader, Subset, TensorDataset

from activsparse.data.augment import Augmentation, shifted, varied
from activsparse.data.images import Images
from activsparse.data.module import ImageData
from activsparse.data.sampler import Varied


def _images(channels: int, size: tuple[int, int], flip: bool) -> Images:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (60, channels, *size), generator=generator, dtype=torch.uint8)
    part = TensorDataset(pixels, torch.arange(60) % 7)
    mean, std = (0.3, 0.4, 0.5)[:channels], (0.2, 0.3, 0.1)[:channels]
    return Images(part, part, 7, channels, mean, std, flip=flip, small=True)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(28, 28), (9, 17), (32, 20)])
@pytest.mark.parametrize("flip", [False, True])
def test_equal_bit_for_bit(channels, size, flip):
    images = _images(channels, size, flip)
    shape, how = (channels, *size), Augmentation()
    part = Subset(Subset(images.train, list(range(5, 55))), list(range(49, -1, -1)))
    batched = shifted(part, images, shape, how)
    assert batched is not None
    one_by_one = Varied(part, varied(images, shape, how), seed=3)
    together = Varied(part, varied(images, shape, how), 3, batched)
    keys = [(epoch, index) for epoch in (0, 5) for index in (0, 49, 7, 7, 23)]
    for (x, y), (expected, label) in zip(
        together.__getitems__(keys), one_by_one.__getitems__(keys), strict=True
    ):
        assert y == label
        assert torch.equal(x, expected)
    (x, y) = next(iter(DataLoader(together, sampler=keys, batch_size=10)))
    assert x.shape == (10, *shape)
    assert x.dtype == torch.float32


@pytest.mark.parametrize(
    ("shape", "how"),
    [
        ((3, 28, 28), Augmentation()),
        ((1, 28, 28), Augmentation(erasing=0.5)),
        ((1, 28, 28), Augmentation(auto="trivial")),
        ((1, 28, 28), Augmentation(basic=False)),
    ],
)
def test_other_variations_are_left_to_transforms(shape, how):
    images = _images(1, (28, 28), True)
    assert shifted(images.train, images, shape, how) is None


def test_global_random_numbers_are_left_alone():
    images = _images(1, (28, 28), True)
    data = ImageData(
        images,
        (28, 28),
        8,
        channels=None,
        augmentation=Augmentation(),
        validation=0.1,
        workers=0,
        seed=0,
    )
    before = torch.get_rng_state()
    assert len(data._train.__getitems__([(0, 1), (0, 2)])) == 2
    assert torch.equal(torch.get_rng_state(), before)
