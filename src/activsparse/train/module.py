"""A classifier as a LightningModule."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics.classification import MulticlassAccuracy
from torchvision.transforms import v2

from activsparse.errors import ActivsparseError
from activsparse.train.config import TrainingSection
from activsparse.train.distill import Teacher
from activsparse.train.optim import make_optimizer, make_scheduler

__all__ = ["Classifier"]


class Classifier(pl.LightningModule):
    """Cross-entropy training of `model`, with top-1 accuracy.

    Args:
        model: images (N, C, H, W) to logits (N, num_classes).
        training: optimiser, schedule, label smoothing, mixing of images.
        shape: (C, H, W) of the images; with num_classes it lets a checkpoint be read without data.
        num_classes: of the head.
        total_steps: optimiser steps of the whole phase.
        teacher: learnt from besides the labels, or None.
    """

    def __init__(
        self,
        model: nn.Module,
        training: TrainingSection,
        shape: tuple[int, int, int],
        num_classes: int,
        total_steps: int,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.training_options = training
        self.image_shape = shape
        self.num_classes = num_classes
        self.total_steps = total_steps
        self.teacher = teacher
        self.loss = nn.CrossEntropyLoss(label_smoothing=training.label_smoothing)
        self.plain_loss = nn.CrossEntropyLoss()
        self.mixing = _mixing(training, num_classes)
        self.train_top1 = MulticlassAccuracy(num_classes, average="micro")
        self.val_top1 = MulticlassAccuracy(num_classes, average="micro")
        self.test_top1 = MulticlassAccuracy(num_classes, average="micro")
        # Lightning trains modules in the mode it finds them in.
        self.train()

    def train(self, mode: bool = True) -> Classifier:
        """As any module; frozen norms stay in evaluation mode."""
        super().train(mode)
        if self.training_options.freeze_norms:
            for module in self.model.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def on_fit_start(self) -> None:
        """The teacher follows to the device."""
        if self.teacher is not None:
            self.teacher.to(self.device)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of a batch."""
        images, labels = batch
        targets = labels
        if self.mixing is not None:
            images, targets = self.mixing(images, labels)
        logits = self.model(images)
        if not isinstance(logits, Tensor):
            raise ActivsparseError(
                f"{type(self.model).__name__} gives a {type(logits).__name__} in training, not "
                "logits; switch off its auxiliary outputs in model.options (aux_logits: false)"
            )
        loss: Tensor = self.loss(logits, targets)
        if self.teacher is not None:
            loss = self.teacher.loss(images, logits, loss)
        self.train_top1(logits, labels)
        size = len(labels)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=size, sync_dist=True)
        self.log("train_top1", self.train_top1, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss without smoothing, and accuracy, of held-out images."""
        images, labels = batch
        logits = self.model(images)
        self.val_top1(logits, labels)
        size = len(labels)
        loss = self.plain_loss(logits, labels)
        self.log("val_loss", loss, batch_size=size, sync_dist=True)
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


def _mixing(training: TrainingSection, num_classes: int) -> Any:
    """Torchvision's mixtures of the images and labels of a batch, one of them at random."""
    kinds = [
        kind(alpha=alpha, num_classes=num_classes)
        for kind, alpha in ((v2.MixUp, training.mixup), (v2.CutMix, training.cutmix))
        if alpha > 0
    ]
    return v2.RandomChoice(kinds) if kinds else None
