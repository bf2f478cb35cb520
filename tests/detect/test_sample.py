"""Pictures and boxes move together."""

from __future__ import annotations

import pytest
import torch

from activsparse import ActivsparseError
from activsparse.detect.data import DetectionData, collate
from activsparse.detect.sample import Sample, flipped, letterboxed, mosaic, recoloured
from activsparse.detect.scenes import Scenes


def marked(h: int, w: int, box: tuple[int, int, int, int], label: int = 0) -> Sample:
    """A black picture whose only bright area is the box."""
    image = torch.zeros(3, h, w, dtype=torch.uint8)
    x1, y1, x2, y2 = box
    image[:, y1:y2, x1:x2] = 255
    return Sample(image, torch.tensor([box]).float(), torch.tensor([label]))


def bright_box(image: torch.Tensor) -> torch.Tensor:
    """The tight box of what is brighter than the grey of borders."""
    rows, columns = (image[0] > 180).nonzero(as_tuple=True)
    corners = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return torch.tensor([float(v) for v in corners])


@pytest.mark.parametrize("size", [(96, 96), (64, 128), (160, 96)])
def test_letterbox_moves_boxes_there_and_back(size):
    sample = marked(80, 100, (20, 10, 60, 50))
    fitted, letterbox = letterboxed(sample, size)
    assert fitted.image.shape == (3, *size)
    torch.testing.assert_close(fitted.boxes[0], bright_box(fitted.image), atol=1.5, rtol=0)
    torch.testing.assert_close(letterbox.back(fitted.boxes), sample.boxes)


def test_flip_moves_boxes():
    sample = marked(40, 60, (5, 10, 25, 30))
    once = flipped(sample)
    torch.testing.assert_close(once.boxes[0], bright_box(once.image))
    torch.testing.assert_close(flipped(once).boxes, sample.boxes)


@pytest.mark.parametrize("seed", range(20))
def test_mosaic_keeps_boxes_on_what_is_left_of_objects(seed):
    generator = torch.Generator().manual_seed(seed)
    empty = Sample(torch.zeros(3, 50, 50, dtype=torch.uint8), torch.zeros(0, 4), torch.zeros(0))
    corner = seed % 4
    samples = [empty] * 4
    samples[corner] = marked(90, 80, (20, 30, 60, 70), label=3)
    joined = mosaic(samples, (96, 128), generator)
    assert joined.image.shape == (3, 96, 128)
    if len(joined.boxes):
        assert joined.labels.tolist() == [3]
        torch.testing.assert_close(joined.boxes[0], bright_box(joined.image), atol=2, rtol=0)
        return
    # It was cut off by the border of the canvas, as nothing else cuts anything.
    if (joined.image[0] > 180).any():
        x1, y1, x2, y2 = bright_box(joined.image).tolist()
        assert x1 == 0 or y1 == 0 or x2 == 128 or y2 == 96, seed


@pytest.mark.parametrize("seed", range(5))
def test_mosaic_joins_four_pictures(seed):
    near, far = (2, 14), (50, 62)  # near the point where the four meet, so never cut off
    samples = [
        marked(64, 64, (x[0], y[0], x[1], y[1]), label=i)
        for i, (y, x) in enumerate([(far, far), (far, near), (near, far), (near, near)])
    ]
    joined, again = (
        mosaic(samples, (96, 96), torch.Generator().manual_seed(seed)) for _ in range(2)
    )
    assert torch.equal(again.image, joined.image)
    assert joined.labels.tolist() == [0, 1, 2, 3]
    for x1, y1, x2, y2 in joined.boxes.round().int().tolist():
        assert joined.image[:, y1 + 2 : y2 - 2, x1 + 2 : x2 - 2].min() > 180
    centres = (joined.boxes[:, :2] + joined.boxes[:, 2:]) / 2
    assert centres[[0, 2], 0].max() < centres[[1, 3], 0].min()
    assert centres[[0, 1], 1].max() < centres[[2, 3], 1].min()


def test_the_splits_of_scenes_share_no_item():
    splits = [Scenes(1, split, source="digits") for split in ("train", "validation", "test")]
    items = [{bytes(item.numpy().tobytes()) for item in scenes.items} for scenes in splits]
    assert all(items)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert not items[one] & items[other]


def test_scenes_are_pure_functions_of_seed_and_index():
    scenes, again = (Scenes(6, seed=3, source="digits") for _ in range(2))
    for index in (4, 0, 5):
        a, b = scenes[index], again[index]
        assert torch.equal(a.image, b.image)
        assert torch.equal(a.boxes, b.boxes)
        assert min(a.image.shape[1:]) >= 160
        assert max(a.image.shape[1:]) <= 320
        x1, y1, x2, y2 = a.boxes.T
        assert (x1 >= 0).all()
        assert (x2 <= a.image.shape[2]).all()
        assert (y2 <= a.image.shape[1]).all()
        assert (x2 > x1).all()
        assert (y2 > y1).all()
    other = Scenes(6, seed=4, source="digits")[0].image
    assert other.shape != scenes[0].image.shape or not torch.equal(other, scenes[0].image)


def test_batches_hold_images_and_their_boxes():
    scenes = Scenes(10, source="digits")
    data = DetectionData(scenes, scenes, None, 10, (64, 64), 4, seed=1)
    data._sampler.set_epoch(2)
    first, again = (next(iter(data.train_dataloader())) for _ in range(2))
    for a, b in zip(first, again, strict=True):
        assert torch.equal(a, b)
    images, targets = first
    assert images.shape == (4, 3, 64, 64)
    assert images.min() >= 0
    assert images.max() <= 1
    assert set(targets[:, 0].tolist()) <= {0.0, 1.0, 2.0, 3.0}
    assert sum(len(images) for images, _ in data.val_dataloader()) == 10
    _, rows = collate([marked(20, 20, (2, 4, 6, 10), label=7)])
    assert rows.tolist() == [[0, 7, 4, 7, 4, 6]]


def test_colours_change_and_leave_the_boxes():
    sample = marked(20, 20, (2, 4, 6, 10))
    changed = recoloured(sample, torch.Generator().manual_seed(0))
    assert torch.equal(changed.boxes, sample.boxes)
    assert changed.image.dtype == torch.uint8
    assert changed.image.shape == sample.image.shape
    assert not torch.equal(changed.image, sample.image)
    again = recoloured(sample, torch.Generator().manual_seed(0))
    assert torch.equal(again.image, changed.image)


def test_scenes_take_digits_where_there_is_no_fashion(monkeypatch):
    def missing(*_):
        raise ActivsparseError("no copy")

    monkeypatch.setattr("activsparse.data.fashion_mnist.load_fashion_mnist", missing)
    found, wanted = Scenes(1), Scenes(1, source="digits")
    assert torch.equal(found[0].image, wanted[0].image)
    with pytest.raises(ActivsparseError, match="no copy"):
        Scenes(1, source="fashion")
    with pytest.raises(ActivsparseError, match="choose fashion or digits"):
        Scenes(1, source="letters")
