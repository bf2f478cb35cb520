"""A detector as a LightningModule."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torchmetrics.detection import MeanAveragePrecision
from torchvision.ops import box_convert

from activsparse.detect.boxes import detections
from activsparse.detect.loss import DetectionLoss
from activsparse.models.yolov5 import STRIDES, YoloV5
from activsparse.train.config import TrainingSection
from activsparse.train.optim import make_optimizer, make_scheduler

__all__ = ["Detector"]


class Detector(pl.LightningModule):
    """Trains a `YoloV5`; logs the losses and the mean average precision.

    Args:
        model: the detector.
        training: optimiser and schedule.
        num_classes: of the head.
        total_steps: optimiser steps of the whole training.
    """

    def __init__(
        self, model: YoloV5, training: TrainingSection, num_classes: int, total_steps: int
    ) -> None:
        super().__init__()
        self.model = model
        self.training_options = training
        self.total_steps = total_steps
        self.loss = DetectionLoss(model.head.anchors, STRIDES, num_classes)
        # torchmetrics keeps boxes and scores of all pictures; COCO's rules decide.
        self.precision = MeanAveragePrecision(box_format="xyxy", iou_type="bbox")
        self.precision.warn_on_many_detections = False

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of a batch."""
        images, targets = batch
        raw = [y.float() for y in self.model(images)]
        with torch.autocast(images.device.type, enabled=False):  # overlaps need all their digits
            losses: dict[str, Tensor] = self.loss(raw, targets)
        for name, value in losses.items():
            self.log(f"train_{name}", value, on_epoch=True, on_step=False, batch_size=len(images))
        return losses["loss"]

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Collect what is found."""
        images, targets = batch
        found, wanted = [], []
        for i, output in enumerate(self.model(images).float()):
            kept = detections(output, score=0.001, overlap=0.6)
            found.append({"boxes": kept.boxes, "scores": kept.scores, "labels": kept.labels})
            rows = targets[targets[:, 0] == i]
            boxes = box_convert(rows[:, 2:], "cxcywh", "xyxy")
            wanted.append({"boxes": boxes, "labels": rows[:, 1].long()})
        self.precision.update(found, wanted)

    def on_validation_epoch_end(self) -> None:
        """Mean average precision over overlaps of 0.5, and of 0.5 to 0.95."""
        result = self.precision.compute()
        self.precision.reset()
        self.log("map50", result["map_50"].to(torch.float32))
        self.log("map", result["map"].to(torch.float32))

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and schedule."""
        optimizer = make_optimizer(self.model, self.training_options)
        scheduler = make_scheduler(optimizer, self.training_options, self.total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
