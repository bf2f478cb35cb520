"""YOLOv5 (v6 layout), written from the published description of its layers.

Strides 8, 16 and 32; a backbone of cross stage partial blocks, a fast spatial pyramid pooling, a
path aggregation neck, and one 1x1 convolution per scale that predicts, for each of three anchors,
a box, whether there is an object, and its class. Variants differ in width and depth only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

__all__ = ["ANCHORS", "STRIDES", "YoloV5", "yolov5n", "yolov5s"]

STRIDES = (8, 16, 32)

ANCHORS = (
    ((10, 13), (16, 30), (33, 23)),
    ((30, 61), (62, 45), (59, 119)),
    ((116, 90), (156, 198), (373, 326)),
)
"""Widths and heights in pixels, by scale: those published for COCO at 640 pixels."""

Anchors = Sequence[Sequence[Sequence[float]]]


class _ConvNorm(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1) -> None:
        super().__init__()
        padding = 2 if kernel == 6 else kernel // 2
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.norm(self.conv(x)))
        return y


class _Bottleneck(nn.Module):
    """1x1 and 3x3 convolution, added to the input if `shortcut`."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.reduce = _ConvNorm(channels, channels)
        self.spatial = _ConvNorm(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.spatial(self.reduce(x))
        return x + y if self.shortcut else y


class _C3(nn.Module):
    """Cross stage partial block: half of the channels pass bottlenecks, half go around them."""

    def __init__(self, inputs: int, outputs: int, depth: int, shortcut: bool = True) -> None:
        super().__init__()
        half = outputs // 2
        self.main = _ConvNorm(inputs, half)
        self.side = _ConvNorm(inputs, half)
        self.blocks = nn.Sequential(*(_Bottleneck(half, shortcut) for _ in range(depth)))
        self.join = _ConvNorm(2 * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.join(torch.cat([self.blocks(self.main(x)), self.side(x)], 1))
        return y


class _PyramidPool(nn.Module):
    """Maxima over windows of 5, 9 and 13, as three 5x5 poolings in a row (SPPF)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = _ConvNorm(channels, channels // 2)
        self.pool = nn.MaxPool2d(5, stride=1, padding=2)
        self.join = _ConvNorm(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        maps = [self.reduce(x)]
        for _ in range(3):
            maps.append(self.pool(maps[-1]))
        y: Tensor = self.join(torch.cat(maps, 1))
        return y


class _Head(nn.Module):
    """One 1x1 convolution per scale, and what its numbers mean.

    For the anchor (aw, ah) at cell (i, j) of a scale of stride s, with p = sigmoid of the numbers:
    centre x = (2 p0 - 0.5 + j) s, y = (2 p1 - 0.5 + i) s, width = (2 p2)^2 aw, height =
    (2 p3)^2 ah, objectness p4, classes p5... (the formulas published with YOLOv5).
    """

    anchors: Tensor

    def __init__(self, channels: Sequence[int], num_classes: int, anchors: Anchors) -> None:
        super().__init__()
        self.numbers = 5 + num_classes
        self.register_buffer("anchors", torch.tensor(anchors, dtype=torch.float32))
        count = self.anchors.shape[1]
        self.convs = nn.ModuleList(nn.Conv2d(c, count * self.numbers, 1) for c in channels)
        self._start_with_few_objects(num_classes)

    def _start_with_few_objects(self, num_classes: int) -> None:
        """Biases for about 8 objects in an image of 640 pixels, of any class."""
        for conv, stride in zip(self.convs, STRIDES, strict=True):
            assert isinstance(conv, nn.Conv2d)
            assert conv.bias is not None
            bias = conv.bias.detach().view(-1, self.numbers)
            bias[:, 4] += math.log(8 / (640 / stride) ** 2)
            bias[:, 5:] += math.log(0.6 / max(num_classes - 0.6, 0.4))

    def forward(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Raw numbers by scale, each (N, anchors, H, W, 5 + classes)."""
        raw = []
        for conv, x in zip(self.convs, maps, strict=True):
            n, _, h, w = x.shape
            y = conv(x).view(n, self.anchors.shape[1], self.numbers, h, w)
            raw.append(y.permute(0, 1, 3, 4, 2))
        return raw

    def decode(self, raw: Sequence[Tensor]) -> Tensor:
        """Boxes of all scales, (N, anchors * cells, 5 + classes): cx, cy, w, h, scores."""
        boxes = []
        for y, anchors, stride in zip(raw, self.anchors, STRIDES, strict=True):
            n, count, h, w, _ = y.shape
            centre, size, scores = torch.split(y.sigmoid(), [2, 2, self.numbers - 4], dim=4)
            centre = (centre * 2 + _cells(h, w, y.device)) * stride
            size = (size * 2) ** 2 * anchors.view(1, count, 1, 1, 2)
            joined = torch.cat([centre, size, scores], 4)
            boxes.append(joined.view(n, count * h * w, self.numbers))
        return torch.cat(boxes, 1)

    def encode(self, boxes: Tensor, grids: Sequence[tuple[int, int]]) -> list[Tensor]:
        """The raw numbers that `decode` makes these boxes of; grids are (H, W) by scale."""
        count = self.anchors.shape[1]
        raw = []
        parts = torch.split(boxes, [count * h * w for h, w in grids], dim=1)
        for part, (h, w), anchors, stride in zip(parts, grids, self.anchors, STRIDES, strict=True):
            y = part.view(len(boxes), count, h, w, self.numbers)
            centre = (y[..., :2] / stride - _cells(h, w, y.device)) / 2
            size = (y[..., 2:4] / anchors.view(1, count, 1, 1, 2)).sqrt() / 2
            raw.append(torch.cat([centre, size, y[..., 4:]], 4).logit(1e-6))
        return raw


def _cells(h: int, w: int, device: torch.device) -> Tensor:
    """(1, 1, h, w, 2): the (x, y) of every cell, minus one half."""
    y, x = torch.meshgrid(
        torch.arange(h, device=device), torch.arange(w, device=device), indexing="ij"
    )
    return torch.stack([x, y], 2).float().view(1, 1, h, w, 2) - 0.5


class YoloV5(nn.Module):
    """The detector.

    In training mode `forward` returns the raw numbers of each scale (see `_Head.forward`), in
    evaluation mode the decoded boxes (N, anchors * cells, 5 + classes). Images are (N, C, H, W)
    with values in [0, 1], height and width multiples of 32.

    Args:
        num_classes: classes to tell apart.
        in_channels: channels of the image.
        width: factor of the published channel counts (n: 0.25, s: 0.5).
        depth: factor of the published block counts (n and s: 1/3).
        anchors: (3 scales, any number, 2) widths and heights in pixels.
    """

    def __init__(
        self,
        num_classes: int = 80,
        in_channels: int = 3,
        width: float = 0.25,
        depth: float = 1 / 3,
        anchors: Anchors = ANCHORS,
    ) -> None:
        super().__init__()
        c1, c2, c3, c4, c5 = (math.ceil(64 * 2**i * width / 8) * 8 for i in range(5))
        d3, d6, d9 = (max(1, round(n * depth)) for n in (3, 6, 9))
        self.stem = _ConvNorm(in_channels, c1, 6, 2)
        self.stage2 = nn.Sequential(_ConvNorm(c1, c2, 3, 2), _C3(c2, c2, d3))
        self.stage3 = nn.Sequential(_ConvNorm(c2, c3, 3, 2), _C3(c3, c3, d6))
        self.stage4 = nn.Sequential(_ConvNorm(c3, c4, 3, 2), _C3(c4, c4, d9))
        self.stage5 = nn.Sequential(_ConvNorm(c4, c5, 3, 2), _C3(c5, c5, d3), _PyramidPool(c5))
        self.reduce5 = _ConvNorm(c5, c4)
        self.up4 = _C3(2 * c4, c4, d3, shortcut=False)
        self.reduce4 = _ConvNorm(c4, c3)
        self.up3 = _C3(2 * c3, c3, d3, shortcut=False)
        self.shrink3 = _ConvNorm(c3, c3, 3, 2)
        self.down4 = _C3(2 * c3, c4, d3, shortcut=False)
        self.shrink4 = _ConvNorm(c4, c4, 3, 2)
        self.down5 = _C3(2 * c4, c5, d3, shortcut=False)
        self.upsample = nn.Upsample(scale_factor=2, mode="nearest")
        self.head = _Head((c3, c4, c5), num_classes, anchors)

    def features(self, x: Tensor) -> list[Tensor]:
        """Maps at strides 8, 16 and 32 that the head reads."""
        x3 = self.stage3(self.stage2(self.stem(x)))
        x4 = self.stage4(x3)
        top5 = self.reduce5(self.stage5(x4))
        top4 = self.reduce4(self.up4(torch.cat([self.upsample(top5), x4], 1)))
        out3 = self.up3(torch.cat([self.upsample(top4), x3], 1))
        out4 = self.down4(torch.cat([self.shrink3(out3), top4], 1))
        out5 = self.down5(torch.cat([self.shrink4(out4), top5], 1))
        return [out3, out4, out5]

    def forward(self, x: Tensor) -> Tensor | list[Tensor]:
        """See the class."""
        raw: list[Tensor] = self.head(self.features(x))
        return raw if self.training else self.head.decode(raw)


def yolov5n(num_classes: int = 80, in_channels: int = 3, anchors: Anchors = ANCHORS) -> YoloV5:
    """The smallest published variant: 1.87 million parameters with 80 classes."""
    return YoloV5(num_classes, in_channels, width=0.25, anchors=anchors)


def yolov5s(num_classes: int = 80, in_channels: int = 3, anchors: Anchors = ANCHORS) -> YoloV5:
    """Twice as wide: 7.2 million parameters with 80 classes."""
    return YoloV5(num_classes, in_channels, width=0.5, anchors=anchors)
