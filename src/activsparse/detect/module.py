"""A detector as a LightningModule."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import box_convert

from activsparse.detect.boxes import detections
from activsparse.detect.loss import DetectionLoss
from activsparse.distributed import world_size
from activsparse.errors import ActivsparseError
from activsparse.models.yolov5 import STRIDES, YoloV5
from activsparse.train.learning.distill import Teacher
from activsparse.train.learning.learner import Learner, epoch_mean
from activsparse.train.recipes.config import TrainingSection

__all__ = ["Detector"]


class Detector(Learner):
    """Trains a `YoloV5`; measures mean average precision over overlaps of 0.5, and 0.5 to 0.95.

    Args: see `Learner`.

    Raises:
        ActivsparseError: pycocotools is not there.
    """

    figures = ("map50", "map")
    logged = ("train_loss", "train_box", "train_object", "train_class", "val_map50", "val_map")
    model: YoloV5

    def __init__(
        self,
        model: YoloV5,
        training: TrainingSection,
        shape: tuple[int, int, int],
        num_classes: int,
        total_steps: int,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__(model, training, shape, num_classes, total_steps, teacher)
        for name in self.logged:
            if name.startswith("train_"):
                self.add_module(name, epoch_mean())
        self.loss = DetectionLoss(model.head.anchors, STRIDES, num_classes)
        try:
            # Keeps the boxes and scores of all pictures; COCO's rules decide.
            self.precision = MeanAveragePrecision(box_format="xyxy", iou_type="bbox")
        except ModuleNotFoundError as error:
            raise ActivsparseError(
                "measuring a detector needs pycocotools, which is not installed; "
                "pip install 'activsparse[detect]'"
            ) from error
        self.precision.warn_on_many_detections = False
        self.train()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of a batch."""
        images, targets = batch
        raw = [y.float() for y in self.model(images)]
        with torch.autocast(images.device.type, enabled=False):  # overlaps need all their digits
            losses: dict[str, Tensor] = self.loss(raw, targets)
            loss = losses["loss"]
        if self.teacher is not None:
            loss = self.teacher.loss(images, raw, loss)
        size = len(images)
        for name, value in {**losses, "loss": loss}.items():
            name = f"train_{name}"
            mean: Any = self.get_submodule(name)
            mean.update(value.detach(), size)
            self.log(name, mean, on_step=False, on_epoch=True, batch_size=size)
        # The loss grows with the batch, and gradients are averaged over processes and accumulated
        # batches, so what an optimiser's step sees is the loss of all its pictures.
        return loss * world_size() * self.training_options.accumulate

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Collect what is found."""
        images, targets = batch
        found, wanted = [], []
        for i, output in enumerate(self.evaluated(images).float()):
            kept = detections(output, score=0.001, overlap=0.6)
            found.append({"boxes": kept.boxes, "scores": kept.scores, "labels": kept.labels})
            rows = targets[targets[:, 0] == i]
            boxes = box_convert(rows[:, 2:], "cxcywh", "xyxy")
            wanted.append({"boxes": boxes, "labels": rows[:, 1].long()})
        self.precision.update(found, wanted)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Alike."""
        self.validation_step(batch, batch_idx)

    def on_validation_epoch_end(self) -> None:
        """Log mean average precision."""
        self._log_precision("val")

    def on_test_epoch_end(self) -> None:
        """Log mean average precision."""
        self._log_precision("test")

    def _log_precision(self, part: str) -> None:
        result = self.precision.compute()
        self.precision.reset()
        self.log(f"{part}_map50", result["map_50"].float())
        self.log(f"{part}_map", result["map"].float())
