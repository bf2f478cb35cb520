"""A classifier as a LightningModule."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torchmetrics.classification import MulticlassAccuracy

from activsparse.errors import ActivsparseError
from activsparse.train.config import TrainingSection
from activsparse.train.optim import make_optimizer, make_scheduler

__all__ = ["Classifier"]


class Classifier(pl.LightningModule):
    """Cross-entropy training of `model`, with top-1 accuracy.

    Args:
        model: images (N, C, H, W) to logits (N, num_classes).
        training: optimiser, schedule, label smoothing.
        shape: (C, H, W) of the images; with num_classes it lets a checkpoint be read without data.
        num_classes: of the head.
        total_steps: optimiser steps of the whole phase.
    """

    def __init__(
        self,
        model: nn.Module,
        training: TrainingSection,
        shape: tuple[int, int, int],
        num_classes: int,
        total_steps: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.training_options = training
        self.image_shape = shape
        self.num_classes = num_classes
        self.total_steps = total_steps
        self.loss = nn.CrossEntropyLoss(label_smoothing=training.label_smoothing)
        self.plain_loss = nn.CrossEntropyLoss()
        self.train_top1 = MulticlassAccuracy(num_classes, average="micro")
        self.val_top1 = MulticlassAccuracy(num_classes, average="micro")
        self.test_top1 = MulticlassAccuracy(num_classes, average="micro")

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of a batch."""
        images, labels = batch
        logits = self.model(images)
        loss: Tensor = self.loss(logits, labels)
        if not torch.isfinite(loss):
            raise ActivsparseError(
                f"step {self.global_step}: the loss is not finite; lower training.lr "
                "(last.ckpt of the run folder holds the latest whole epoch)"
            )
        self.train_top1(logits, labels)
        size = len(labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=size)
        self.log("train_top1", self.train_top1, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss without smoothing, and accuracy, of held-out images."""
        images, labels = batch
        logits = self.model(images)
        self.val_top1(logits, labels)
        size = len(labels)
        self.log("val_loss", self.plain_loss(logits, labels), batch_size=size)
        self.log("val_top1", self.val_top1, batch_size=size)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Accuracy of test images."""
        images, labels = batch
        self.test_top1(self.model(images), labels)
        self.log("test_top1", self.test_top1, batch_size=len(labels))

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and schedule."""
        optimizer = make_optimizer(self.model, self.training_options)
        scheduler = make_scheduler(optimizer, self.training_options, self.total_steps)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Note what is needed to rebuild the network without its data."""
        checkpoint["activsparse"] = {
            "shape": list(self.image_shape),
            "num_classes": self.num_classes,
        }
