"""`fashion-scenes`: pictures of clothes scattered over cluttered backgrounds, made on the spot.

Fashion-MNIST items (where there is no copy, handwritten digits) at random scale and place on
canvases of random size, before gradients, shapes and noise. Every picture is a pure function of
(split, seed, index).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils.data import Dataset

from activsparse.data.images import Images
from activsparse.data.sampler import _seed
from activsparse.detect.sample import Sample
from activsparse.errors import ActivsparseError

__all__ = ["Scenes"]

_CANVAS = (160, 320)
_SCALE = (0.9, 3.2)  # of items of 28 pixels
_MOST = 7
_OVERLAP = 0.25


class Scenes(Dataset[Sample]):
    """Made pictures; the splits have no item in common.

    Args:
        size: number of pictures.
        split: `train` and `validation` (of the source's training part), or `test`.
        seed: of everything random.
        root: where a copy of Fashion-MNIST lies, see `load_fashion_mnist`.
        source: `fashion`, `digits`, or None for the first that is there.
    """

    def __init__(
        self,
        size: int,
        split: str = "train",
        seed: int = 0,
        root: str | None = None,
        source: str | None = None,
    ) -> None:
        images = _items(root, source)
        data = images.test if split == "test" else images.train
        assert data is not None
        count = len(data)  # type: ignore[arg-type]
        border = count * 5 // 6
        chosen = {"train": range(border), "validation": range(border, count), "test": range(count)}
        if split not in chosen:
            raise ActivsparseError(f"split {split!r} of scenes: choose {', '.join(chosen)}")
        pixels, labels = zip(*[data[i] for i in chosen[split]], strict=True)
        self.items, self.labels = torch.stack(pixels)[:, 0], torch.tensor(labels)
        self.num_classes = images.num_classes
        self.size, self.seed, self.split = size, seed, list(chosen).index(split)

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Sample:
        """Picture `index`."""
        generator = torch.Generator().manual_seed(_seed(self.seed, self.split, index))
        low, high = _CANVAS
        h, w = (int(v) for v in torch.randint(low, high + 1, (2,), generator=generator))
        canvas = _background(h, w, generator)
        count = int(torch.randint(1, _MOST + 1, (), generator=generator))
        boxes: list[Tensor] = []
        labels: list[int] = []
        for _ in range(count):
            which = int(torch.randint(len(self.items), (), generator=generator))
            box = self._paste(canvas, self.items[which], boxes, generator)
            if box is not None:
                boxes.append(box)
                labels.append(int(self.labels[which]))
        noise = torch.randn(canvas.shape, generator=generator) * 6
        image = (canvas + noise).round().clamp(0, 255).to(torch.uint8)
        found = torch.stack(boxes) if boxes else torch.zeros(0, 4)
        return Sample(image, found, torch.tensor(labels, dtype=torch.int64))

    def _paste(
        self, canvas: Tensor, item: Tensor, others: list[Tensor], generator: torch.Generator
    ) -> Tensor | None:
        """Draw an item at a free place; its tight box, or None where none was found."""
        scale = _between(*_SCALE, generator)
        aspect = _between(0.8, 1.25, generator)
        size = max(int(28 * scale * aspect), 8), max(int(28 * scale / aspect), 8)
        alpha = functional.interpolate(item[None, None].float(), size, mode="bilinear")[0, 0] / 255
        rows, columns = (alpha > 0.15).any(1).nonzero()[:, 0], (alpha > 0.15).any(0).nonzero()[:, 0]
        if not len(rows) or size[0] >= canvas.shape[1] or size[1] >= canvas.shape[2]:
            return None
        for _ in range(10):
            top = int(torch.randint(canvas.shape[1] - size[0], (), generator=generator))
            left = int(torch.randint(canvas.shape[2] - size[1], (), generator=generator))
            box = torch.tensor(
                [left + columns[0], top + rows[0], left + columns[-1] + 1, top + rows[-1] + 1]
            ).float()
            if all(_covered(box, other) < _OVERLAP for other in others):
                colour = 60 + 195 * torch.rand(3, 1, 1, generator=generator)
                place = canvas[:, top : top + size[0], left : left + size[1]]
                solid = (alpha * 4).clamp(max=1.0)
                place.copy_(place * (1 - solid) + (0.25 + 0.75 * alpha) * colour * solid)
                return box
        return None


def _items(root: str | None, source: str | None) -> Images:
    from activsparse.data.digits import load_digits
    from activsparse.data.fashion_mnist import load_fashion_mnist

    if source not in (None, "fashion", "digits"):
        raise ActivsparseError(f"scenes of {source!r}: choose fashion or digits")
    if source != "digits":
        try:
            return load_fashion_mnist(root, (28, 28))
        except ActivsparseError:
            if source == "fashion":
                raise
    return load_digits(root, (28, 28))


def _background(h: int, w: int, generator: torch.Generator) -> Tensor:
    """A coarse random gradient with rectangles and discs on it, (3, h, w) float."""
    coarse = 110 * torch.rand(1, 3, 4, 4, generator=generator)
    canvas = functional.interpolate(coarse, (h, w), mode="bicubic")[0]
    y, x = torch.arange(h)[:, None], torch.arange(w)[None]
    for _ in range(int(torch.randint(2, 9, (), generator=generator))):
        cy, cx = _between(0, h, generator), _between(0, w, generator)
        ry, rx = (_between(4, 0.2 * max(h, w), generator) for _ in range(2))
        dy, dx = (y - cy) / ry, (x - cx) / rx
        round_ = bool(torch.rand((), generator=generator) < 0.5)
        inside = dy**2 + dx**2 < 1 if round_ else (dy.abs() < 1) & (dx.abs() < 1)
        colour = 140 * torch.rand(3, 1, 1, generator=generator)
        canvas = torch.where(inside[None], 0.3 * canvas + 0.7 * colour, canvas)
    return canvas


def _covered(a: Tensor, b: Tensor) -> float:
    """Share of the smaller box that lies in the other."""
    size = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
    areas = (a[2:] - a[:2]).prod(), (b[2:] - b[:2]).prod()
    return float(size.prod() / torch.minimum(*areas))


def _between(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))
