"""Classification or detection: what differs between them, chosen by network and data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from activsparse.data import BatchData
from activsparse.detect.data import DetectionData
from activsparse.errors import ActivsparseError, Setting
from activsparse.models import YoloV5
from activsparse.train.learning.distill import Teacher
from activsparse.train.learning.learner import Learner
from activsparse.train.recipes.config import TrainingSection
from activsparse.train.sparsify.modes import evaluating

__all__ = ["check_task", "fit_to_data", "held_out_loss", "make_learner", "teacher_type"]


def check_task(model: nn.Module, data: BatchData) -> None:
    """Find out early that a network does not fit its data.

    Raises:
        ActivsparseError: a classifier and pictures with boxes, or the reverse; a network that does
            not run on images of that size, or gives no logits of the data's classes.
    """
    detects, boxes = isinstance(model, YoloV5), isinstance(data, DetectionData)
    if detects != boxes:
        kind = type(model).__name__
        if boxes:
            raise ActivsparseError(
                f"{kind} is no detector, the data have boxes; choose yolov5n or yolov5s in ",
                Setting("model.name"),
            )
        raise ActivsparseError(
            f"{kind} is a detector; choose fashion_scenes, voc, coco or yolo in ",
            Setting("data.name"),
        )
    if not detects:
        _check_logits(model, data)


def _check_logits(model: nn.Module, data: BatchData) -> None:
    kind = type(model).__name__
    try:
        with torch.no_grad(), evaluating(model):
            logits = model(torch.zeros(1, *data.shape))
    except Exception as error:  # a network may be anybody's code
        raise ActivsparseError(
            f"{kind} does not run on images of shape {data.shape} ({error}); choose another ",
            Setting("data.image_size"),
            " or ",
            Setting("model.name"),
        ) from error
    found = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    if found != (1, data.num_classes):
        raise ActivsparseError(
            f"{kind} gives {found} for one image, not logits of shape (1, {data.num_classes}); "
            "name a classifier in ",
            Setting("model.name"),
        )


def fit_to_data(model: nn.Module, data: BatchData) -> None:
    """What a network without weights takes over from its data: a detector's anchors."""
    if isinstance(model, YoloV5) and isinstance(data, DetectionData):
        from activsparse.detect.anchors import kmeans_anchors

        anchors = torch.tensor(kmeans_anchors(data.box_sizes()))
        model.head.anchors.copy_(anchors)


def make_learner(
    model: nn.Module,
    training: TrainingSection,
    data: BatchData,
    total_steps: int,
    teacher: Teacher | None,
) -> Learner:
    """The task's `Learner`; see there."""
    options = (training, data.shape, data.num_classes, total_steps, teacher)
    if isinstance(model, YoloV5):
        from activsparse.detect.module import Detector

        return Detector(model, *options)
    from activsparse.train.tasks.classification import Classifier

    return Classifier(model, *options)


def teacher_type(data: BatchData) -> type[Teacher]:
    """The task's kind of `Teacher`."""
    if isinstance(data, DetectionData):
        from activsparse.detect.distill import DetectorTeacher

        return DetectorTeacher
    return Teacher


def held_out_loss(model: nn.Module, example_input: Tensor) -> Callable[[Any, Any], Tensor]:
    """Mean loss of (outputs in evaluation mode, targets)."""
    if not isinstance(model, YoloV5):
        return cross_entropy
    from activsparse.detect.loss import decoded_loss

    return decoded_loss(model, (example_input.shape[2], example_input.shape[3]))
