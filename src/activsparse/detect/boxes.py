"""From the detector's numbers to boxes."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.ops import batched_nms, box_convert, box_iou

__all__ = ["Detections", "detections", "found_alike", "split_output"]

# Suppression takes quadratic time; nothing beyond the surest ones would be kept anyway.
_CANDIDATES = 2000


@dataclass(frozen=True)
class Detections:
    """What was found in one picture, the surest first.

    Attributes:
        boxes: (M, 4): left, top, right, bottom in pixels.
        scores: (M,) in [0, 1].
        labels: (M,) int64.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


def split_output(output: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes (A, 4) as centre and size, and class scores (A, classes), of one picture's output.

    Two forms are known: (A, 5 + classes) with objectness, and (4 + classes, A) without, as
    YOLOv8-type models give it; the longer axis counts the boxes.
    """
    if output.shape[0] < output.shape[1]:
        return output[:4].T, output[4:].T
    return output[:, :4], output[:, 4:5] * output[:, 5:]


def detections(
    output: Tensor, score: float = 0.25, overlap: float = 0.45, most: int = 300
) -> Detections:
    """Suppress what is unsure or overlaps something surer of its class.

    Args:
        output: of one picture, see `split_output`.
        score: least product of objectness and class score.
        overlap: largest intersection over union of two boxes of a class.
        most: boxes to keep.
    """
    centred, classes = split_output(output)
    candidates, labels = (classes > score).nonzero(as_tuple=True)
    scores = classes[candidates, labels]
    boxes = box_convert(centred[candidates], "cxcywh", "xyxy")
    if len(scores) > _CANDIDATES:
        scores, order = scores.topk(_CANDIDATES)
        boxes, labels = boxes[order], labels[order]
    kept = batched_nms(boxes, scores, labels, overlap)[:most]
    return Detections(boxes[kept], scores[kept], torch.as_tensor(labels[kept]))


def found_alike(a: Detections, b: Detections, overlap: float = 0.5) -> int:
    """How many objects are in both: of one class, overlapping enough, each counted once."""
    likeness = box_iou(a.boxes, b.boxes) * (a.labels[:, None] == b.labels[None])
    count = 0
    for row in likeness:  # the surest of `a` choose first
        if len(row) and float(row.max()) >= overlap:
            likeness[:, int(row.argmax())] = 0
            count += 1
    return count
