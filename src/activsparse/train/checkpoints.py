"""The checkpoints of a run: when they are written, and how a run continues from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from activsparse.data import BatchData
from activsparse.errors import ActivsparseError, Setting, Words
from activsparse.files import atomic_path
from activsparse.train.config import Config, parse_config
from activsparse.train.distributed import any_rank
from activsparse.train.interrupt import Interrupted, Interruption
from activsparse.train.recipe import differences
from activsparse.train.sparsifier import Sparsifier

__all__ = ["Checkpoints"]


class Checkpoints(pl.Callback):
    """Writes `last.ckpt` after each epoch and on interruption, `best.ckpt` with final masks.

    It must be the last callback, so that what it saves is complete. A resumed run continues inside
    the epoch it was stopped in, with the same batches and random numbers. A loss or a weight that
    is not finite stops the run before it is saved.

    Args:
        folder: the run folder.
        config: the recipe; a checkpoint of another one is refused.
        sparsifier: best.ckpt waits until its masks are frozen; None in a dense run.
        data: told where to continue.
        interruption: asked after each optimiser step.
        score: the logged figure that decides what is best.
    """

    def __init__(
        self,
        folder: Path,
        config: Config,
        sparsifier: Sparsifier | None,
        data: BatchData,
        interruption: Interruption,
        score: str,
    ) -> None:
        self.folder = folder
        self.config = config
        self.sparsifier = sparsifier
        self.data = data
        self.interruption = interruption
        self.score = score
        self.best_score = -1.0
        self._epoch_batches = 0
        self._step = 0
        self._saved_step: int | None = None
        self._random: dict[str, Any] | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue the stream of random numbers (dropout, mixtures of images)."""
        self._step = trainer.global_step
        if self._random is not None:
            torch.set_rng_state(self._random["cpu"].cpu())
            if self._random["cuda"]:
                torch.cuda.set_rng_state_all([state.cpu() for state in self._random["cuda"]])
            self._random = None

    def on_before_backward(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, loss: Tensor
    ) -> None:
        """Stop before a loss that is not finite reaches the weights."""
        if any_rank(not bool(torch.isfinite(loss)), loss.device):
            raise ActivsparseError(
                f"step {trainer.global_step}: the loss is not finite; ", *self._way
            )

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        """Save if it is time, and stop here if asked to, between whole optimiser steps."""
        self._epoch_batches = trainer.fit_loop.batch_idx + 1
        if trainer.global_step == self._step:
            return
        self._step = trainer.global_step
        stop = any_rank(self.interruption.requested, pl_module.device)
        # An epoch that is complete is first validated.
        if self._epoch_batches == self.data.steps_per_epoch:
            return
        every = self.config.training.save_every
        if stop or (every is not None and self._step % every == 0):
            self._save(trainer, "last.ckpt")
        if stop:
            raise Interrupted

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save."""
        self._epoch_batches = 0
        score = float(trainer.callback_metrics[self.score])
        final = self.sparsifier is None or self.sparsifier.frozen
        if final and score > self.best_score:
            self.best_score = score
            self._save(trainer, "best.ckpt", weights_only=True)
        self._save(trainer, "last.ckpt")
        if any_rank(self.interruption.requested, pl_module.device):
            raise Interrupted

    def state_dict(self) -> dict[str, Any]:
        """Best score, position in the epoch, random numbers, recipe."""
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        return {
            "best_score": self.best_score,
            "epoch_batches": self._epoch_batches,
            "random": {"cpu": torch.get_rng_state(), "cuda": cuda},
            "config": self.config.model_dump(mode="json"),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from there."""
        self.best_score = float(state_dict["best_score"])
        self._epoch_batches = int(state_dict["epoch_batches"])
        self._random = state_dict["random"]

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Tell the data where to continue: `epoch` of a checkpoint counts whole epochs."""
        state = checkpoint["callbacks"][self.state_key]
        file = self.folder / "last.ckpt"
        odd = differences(parse_config(state["config"], str(file)), self.config)
        if odd:
            raise ActivsparseError(
                f"{file}: is of another recipe than config.yaml beside it ({odd[0]}); restore "
                "config.yaml, or start another run in another folder"
            )
        self._saved_step = int(checkpoint["global_step"])
        batches = state["epoch_batches"]
        # Saved at an epoch's end, the epoch's own number is in the checkpoint, yet it is over.
        epoch = int(checkpoint["epoch"]) + (0 if batches else 1)
        self.data.resume(epoch, batches)

    @property
    def _way(self) -> tuple[Words, ...]:
        """The way out for a run that has diverged."""
        if self._saved_step is None:
            return (f"lower training.lr (no checkpoint was written yet to {self.folder})",)
        file = self.folder / "last.ckpt"
        return (
            f"the last good checkpoint is {file}, of step {self._saved_step}: lower training.lr, "
            "or go on from there in a new run with ",
            Setting("init_from", file),
        )

    def _save(self, trainer: pl.Trainer, name: str, weights_only: bool = False) -> None:
        # A gradient may overflow where the loss does not; the next loss would show it too late.
        weights = trainer.lightning_module.parameters()
        if not all(bool(torch.isfinite(p).all()) for p in weights):
            raise ActivsparseError(
                f"step {trainer.global_step}: a weight is not finite; ", *self._way
            )
        if not trainer.is_global_zero:
            # Takes part in what the processes do together; the first one writes.
            trainer.save_checkpoint(self.folder / name, weights_only)
            return
        with atomic_path(self.folder / name) as path:
            trainer.save_checkpoint(path, weights_only)
        if name == "last.ckpt":
            self._saved_step = trainer.global_step
