"""The search beyond the paper, at the moments of a training where it belongs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from torch import Tensor

from activsparse.data import BatchData
from activsparse.train.callbacks.steps import Step, StepCallback
from activsparse.train.learning.learner import Learner
from activsparse.train.recipes.config import SearchSection
from activsparse.train.sparsify.candidates import search_masks
from activsparse.train.sparsify.importance import measure_importance
from activsparse.train.sparsify.norms import recalibrate_norms
from activsparse.train.sparsify.sparsifier import Sparsifier
from activsparse.train.tasks.task import held_out_loss

__all__ = ["SearchCallback"]

_log = logging.getLogger(__name__)


class SearchCallback(StepCallback):
    """Measures importance before the first step; once masks are frozen, searches and recalibrates.

    It must come after the `SparsifierCallback`. Checkpoints note what it has done, so a resumed run
    does not do it again. It looks at training images as they are, not at the held-out ones, which
    choose the best checkpoint.

    Args:
        sparsifier: of the network.
        search: what to do.
    """

    def __init__(self, sparsifier: Sparsifier, search: SearchSection) -> None:
        self.sparsifier = sparsifier
        self.search = search
        self.measured = False
        self.searched = False

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Measure importance, and search at once where masks are frozen from the start."""
        super().on_train_start(trainer, pl_module)
        if self.search.importance is not None and not self.measured:
            batches = self._batches(trainer, pl_module)
            kind = self.search.importance
            self.sparsifier.set_importance(
                measure_importance(self.sparsifier, batches, self._loss(batches), kind)
            )
            self.measured = True
        self._after_freezing(trainer, pl_module)

    def on_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, step: Step
    ) -> None:
        """Search as soon as the masks are frozen."""
        self._after_freezing(trainer, pl_module)

    def state_dict(self) -> dict[str, Any]:
        """What is done."""
        return {"measured": self.measured, "searched": self.searched}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Do not repeat it."""
        self.measured = bool(state_dict["measured"])
        self.searched = bool(state_dict["searched"])

    def _after_freezing(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self.sparsifier.frozen or self.searched:
            return
        self.searched = True
        if self.search.candidates <= 1 and not self.search.recalibrate:
            return
        batches = self._batches(trainer, pl_module)
        if self.search.candidates > 1:
            loss = self._loss(batches)
            choice = search_masks(self.sparsifier, batches, loss, self.search.candidates)
            finalists = [
                loss
                for loss, seen in zip(choice.losses, choice.batches, strict=True)
                if seen == max(choice.batches)
            ]
            _log.info(
                "masks: candidate %d of %d, loss %.4f (finalists up to %.4f)",
                choice.winner,
                self.search.candidates,
                choice.losses[choice.winner],
                max(finalists),
            )
        assert isinstance(pl_module, Learner)
        networks = [self.sparsifier.model]
        if pl_module.average is not None:
            self.sparsifier.copy_masks_to(pl_module.average)
            networks.append(pl_module.average.module)
        if self.search.recalibrate:
            for network in networks:
                recalibrate_norms(network, [images for images, _ in batches])

    def _loss(self, batches: list[tuple[Tensor, Tensor]]) -> Callable[[Any, Any], Tensor]:
        return held_out_loss(self.sparsifier.model, batches[0][0])

    def _batches(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule
    ) -> list[tuple[Tensor, Tensor]]:
        data: BatchData = trainer.datamodule  # type: ignore[attr-defined]
        device = pl_module.device
        loader = data.unvaried_dataloader(self.search.batches)
        return [(images.to(device), labels.to(device)) for images, labels in loader]
