"""A classifier as a LightningModule."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy, interpolate
from torchmetrics.classification import MulticlassAccuracy
from torchvision.transforms import v2

from activsparse.errors import ActivsparseError, Setting
from activsparse.train.learning.distill import Teacher
from activsparse.train.learning.learner import Learner, epoch_mean
from activsparse.train.recipes.config import TrainingSection

__all__ = ["Classifier"]


class Classifier(Learner):
    """Cross-entropy training of a network that gives logits (N, num_classes), with top-1 accuracy.

    Args: see `Learner`.
    """

    figures = ("top1",)
    logged = ("train_loss", "train_top1", "val_loss", "val_top1")

    def __init__(
        self,
        model: nn.Module,
        training: TrainingSection,
        shape: tuple[int, int, int],
        num_classes: int,
        total_steps: int,
        teacher: Teacher | None = None,
    ) -> None:
        super().__init__(model, training, shape, num_classes, total_steps, teacher)
        self.loss = nn.CrossEntropyLoss(label_smoothing=training.label_smoothing)
        self.mixing = _mixing(training, num_classes)
        self.train_loss = epoch_mean()
        self.train_top1 = MulticlassAccuracy(num_classes, average="micro")
        self.val_top1 = MulticlassAccuracy(num_classes, average="micro")
        self.test_top1 = MulticlassAccuracy(num_classes, average="micro")
        # Lightning trains modules in the mode it finds them in.
        self.train()

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Loss of a batch."""
        images, labels = batch
        targets = labels
        if self.mixing is not None:
            images, targets = self.mixing(images, labels)
        logits = self.model(self._shrunk(images))
        if not isinstance(logits, Tensor):
            raise ActivsparseError(
                f"{type(self.model).__name__} gives a {type(logits).__name__} in training, not "
                "logits; switch off its auxiliary outputs with ",
                Setting("model.options", "{aux_logits: false}"),
            )
        loss: Tensor = self.loss(logits, targets)
        if self.teacher is not None:
            loss = self.teacher.loss(images, logits, loss)
        size = len(labels)
        self.train_top1.update(logits, labels)
        self.train_loss.update(loss.detach(), size)
        self.log("train_loss", self.train_loss, on_step=False, on_epoch=True, batch_size=size)
        self.log("train_top1", self.train_top1, on_step=False, on_epoch=True, batch_size=size)
        return loss

    def _shrunk(self, images: Tensor) -> Tensor:
        """What the network sees of images that were made for a teacher's larger size."""
        size = self.image_shape[1:]
        if tuple(images.shape[2:]) == size:
            return images
        return interpolate(images, size, mode="bilinear", antialias=True)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Loss without smoothing, and accuracy, of held-out images."""
        images, labels = batch
        logits = self.evaluated(images)
        self.val_top1(logits, labels)
        size = len(labels)
        loss = cross_entropy(logits, labels)
        self.log("val_loss", loss, batch_size=size, sync_dist=True)
        self.log("val_top1", self.val_top1, batch_size=size)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Accuracy of test images."""
        images, labels = batch
        self.test_top1(self.evaluated(images), labels)
        self.log("test_top1", self.test_top1, batch_size=len(labels))


def _mixing(training: TrainingSection, num_classes: int) -> Any:
    """Torchvision's mixtures of the images and labels of a batch, one of them at random."""
    kinds = [
        kind(alpha=alpha, num_classes=num_classes)
        for kind, alpha in ((v2.MixUp, training.mixup), (v2.CutMix, training.cutmix))
        if alpha > 0
    ]
    return v2.RandomChoice(kinds) if kinds else None
