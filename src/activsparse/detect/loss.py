"""What a YOLOv5-type detector is trained on, as published with it.

A box belongs to every anchor whose width and height differ from its own by less than a factor of
four, at the cell its centre lies in and at the two neighbours the centre is nearest to. There the
predicted box is drawn to it by complete intersection over union (Zheng et al., 2020), objectness
to that overlap, and the class scores to its class; objectness is drawn to zero elsewhere. Weights
are those for 80 classes at 640 pixels, and stay so for others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.ops import box_convert, complete_box_iou_loss

from activsparse.models.yolov5 import STRIDES, YoloV5

__all__ = ["BALANCE", "WEIGHTS", "DetectionLoss", "Matches", "decoded_loss", "match"]

_RATIO = 4.0
WEIGHTS = {"box": 0.05, "object": 1.0, "class": 0.5}
BALANCE = (4.0, 1.0, 0.4)  # objectness by scale: coarse scales have few cells and learn faster


@dataclass(frozen=True)
class Matches:
    """Where the boxes of a batch are to be predicted at one scale.

    Attributes:
        image, anchor, row, column: (K,) int64: the place.
        boxes: (K, 4): centre and size in cells, the centre relative to the cell.
        labels: (K,) int64.
    """

    image: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    boxes: Tensor
    labels: Tensor


def match(targets: Tensor, anchors: Tensor, grid: tuple[int, int]) -> Matches:
    """Assign boxes to anchors and cells of one scale.

    Args:
        targets: (M, 6): image, label, centre x and y, width, height in cells.
        anchors: (A, 2) widths and heights in cells.
        grid: (H, W) of the scale.
    """
    ratio = targets[:, None, 4:] / anchors[None]
    fits = torch.maximum(ratio, 1 / ratio.clamp(min=1e-9)).amax(2) < _RATIO
    which, anchor = fits.nonzero(as_tuple=True)
    chosen = targets[which]
    centre = chosen[:, 2:4]
    part = centre % 1
    limit = centre.new_tensor([grid[1], grid[0]])
    before = (part < 0.5) & (centre > 1)
    after = (part > 0.5) & (centre < limit - 1)
    offsets = centre.new_tensor([[0, 0], [-1, 0], [0, -1], [1, 0], [0, 1]])
    used = torch.stack([torch.ones_like(part[:, 0], dtype=torch.bool), *before.T, *after.T])
    neighbour, index = used.nonzero(as_tuple=True)
    chosen, anchor = chosen[index], anchor[index]
    cell = (chosen[:, 2:4] + offsets[neighbour]).floor()
    cell = torch.minimum(cell.clamp(min=0), limit - 1)
    boxes = torch.cat([chosen[:, 2:4] - cell, chosen[:, 4:]], 1)
    column, row = cell.long().T
    return Matches(chosen[:, 0].long(), anchor, row, column, boxes, chosen[:, 1].long())


class DetectionLoss(nn.Module):
    """The weighted sum of the three parts.

    Args:
        anchors: (scales, A, 2) in pixels.
        strides: of the scales.
        num_classes: classes to tell apart.
    """

    anchors: Tensor

    def __init__(self, anchors: Tensor, strides: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.strides = tuple(strides)
        self.num_classes = num_classes
        self.register_buffer("anchors", anchors.clone(), persistent=False)

    def forward(self, raw: Sequence[Tensor], targets: Tensor) -> dict[str, Tensor]:
        """Mean losses of a batch.

        Args:
            raw: by scale (N, A, H, W, 5 + classes), before the sigmoid.
            targets: (M, 6): image, label, and box as centre and size in pixels.

        Returns:
            `box`, `object`, `class`, weighted, and `loss`, their sum times the batch size.
        """
        zero = raw[0].new_zeros(())
        parts = {"box": zero, "object": zero, "class": zero}
        scales = zip(raw, self.anchors.to(raw[0]), self.strides, BALANCE, strict=True)
        for y, anchors, stride, balance in scales:
            scaled = targets.clone()
            scaled[:, 2:] /= stride
            found = match(scaled, anchors / stride, (y.shape[2], y.shape[3]))
            goal = torch.zeros_like(y[..., 4])
            if len(found.image):
                place = (found.image, found.anchor, found.row, found.column)
                chosen = y[place]
                overlap = _overlap(chosen, found, anchors / stride)
                parts["box"] = parts["box"] + (1 - overlap).mean()
                goal[place] = overlap.detach().clamp(min=0).to(goal)
                if self.num_classes > 1:
                    classes = functional.one_hot(found.labels, self.num_classes).to(chosen)
                    parts["class"] = parts["class"] + functional.binary_cross_entropy_with_logits(
                        chosen[:, 5:], classes
                    )
            objects = functional.binary_cross_entropy_with_logits(y[..., 4], goal)
            parts["object"] = parts["object"] + balance * objects
        parts = {name: WEIGHTS[name] * value for name, value in parts.items()}
        total = torch.stack(list(parts.values())).sum() * len(raw[0])
        return {**parts, "loss": total}


def decoded_loss(model: YoloV5, size: tuple[int, int]) -> Callable[[Tensor, Tensor], Tensor]:
    """Loss by picture of (boxes in evaluation mode, targets), for images of `size` (H, W)."""
    loss = DetectionLoss(model.head.anchors, STRIDES, model.head.numbers - 5)
    grids = [(size[0] // stride, size[1] // stride) for stride in STRIDES]

    def measure(boxes: Tensor, targets: Tensor) -> Tensor:
        losses: dict[str, Tensor] = loss(model.head.encode(boxes.float(), grids), targets)
        return losses["loss"] / len(boxes)

    return measure


def _overlap(raw: Tensor, found: Matches, anchors: Tensor) -> Tensor:
    """Complete intersection over union of predicted boxes and their goals, (K,)."""
    p = raw[:, :4].sigmoid()
    predicted = torch.cat([2 * p[:, :2] - 0.5, (2 * p[:, 2:]) ** 2 * anchors[found.anchor]], 1)
    a = box_convert(predicted, "cxcywh", "xyxy")
    b = box_convert(found.boxes, "cxcywh", "xyxy")
    overlap: Tensor = 1 - complete_box_iou_loss(a, b, reduction="none")
    return overlap
