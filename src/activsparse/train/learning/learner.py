"""What training a network is, whatever its task."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import pytorch_lightning as pl
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchmetrics import MeanMetric

from activsparse.train.learning.average import make_average
from activsparse.train.learning.distill import Teacher
from activsparse.train.learning.optim import make_optimizer, make_scheduler
from activsparse.train.recipes.config import TrainingSection

__all__ = ["Learner", "epoch_mean"]

_Self = TypeVar("_Self", bound="Learner")


class Learner(pl.LightningModule):
    """A network with its optimiser, average, teacher and frozen norms; tasks add loss and figures.

    Attributes:
        average: the average of the network's weights that `training.ema` asks for, or None.

    Args:
        model: takes images (N, C, H, W).
        training: optimiser, schedule and what else the loss is told.
        shape: (C, H, W) of the images; with num_classes it lets a checkpoint be read without data.
        num_classes: of the head.
        total_steps: optimiser steps of the whole phase.
        teacher: learnt from besides the labels, or None.
    """

    figures: ClassVar[tuple[str, ...]]
    """What is measured, logged as `val_...` and `test_...`; the first decides what is best."""
    logged: ClassVar[tuple[str, ...]]
    """Columns of metrics.csv."""

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
        self.average = None if training.ema is None else make_average(model, training.ema)

    @property
    def evaluated(self) -> nn.Module:
        """The network that is validated, tested and kept: the average, where there is one."""
        return self.model if self.average is None else self.average.module

    def train(self: _Self, mode: bool = True) -> _Self:
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


def epoch_mean() -> MeanMetric:
    """A mean over an epoch's batches and all processes; named `train_...`, checkpoints hold it.

    A value that is not finite shows.
    """
    return MeanMetric(nan_strategy="disable")
