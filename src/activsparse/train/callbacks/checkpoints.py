"""The checkpoints of a run: when they are written, and how a run continues from them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from activsparse.data import BatchData
from activsparse.distributed import any_rank, from_all, rank
from activsparse.errors import ActivsparseError, Setting, Words
from activsparse.files import atomic_path
from activsparse.masks.stored import STATE
from activsparse.train.callbacks.steps import Step, StepCallback
from activsparse.train.recipes.config import Config, parse_config
from activsparse.train.recipes.read import differences
from activsparse.train.run.folder import read_checkpoint
from activsparse.train.run.interrupt import Interrupted, Interruption
from activsparse.train.run.streams import restore, start_stream, stream
from activsparse.train.sparsify.sparsifier import Sparsifier

__all__ = ["Checkpoints", "check_checkpoint"]


class Checkpoints(StepCallback):
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
        self._saved_step: int | None = None
        self._module: pl.LightningModule | None = None
        self._streams: list[dict[str, Any]] = []

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue this process's stream of random numbers, and the epoch's figures."""
        super().on_train_start(trainer, pl_module)
        self._module = pl_module
        own = rank()
        if own < len(self._streams):
            restore(self._streams[own], pl_module)
        elif own > 0:
            start_stream(self.config.seed, own, trainer.global_step)
        self._streams = []

    @property
    def stops(self) -> bool:  # type: ignore[override]
        """Whether a signal has come."""
        return self.interruption.requested

    def looks(self) -> bool:
        """Always: a loss that is not finite, or a signal, ends the run."""
        return True

    def on_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, step: Step
    ) -> None:
        """Save if it is time, and stop here if asked to, between whole optimiser steps."""
        number = trainer.global_step
        if step.loss is None or not math.isfinite(step.loss):
            raise ActivsparseError(f"step {number - 1}: the loss is not finite; ", *self._way)
        self._epoch_batches = trainer.fit_loop.batch_idx + 1
        # An epoch that is complete is first validated.
        if self._epoch_batches == self.data.steps_per_epoch:
            return
        every = self.config.training.save_every
        if step.stop or (every is not None and number % every == 0):
            self._save(trainer, "last.ckpt")
        if step.stop:
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
        """Best score, position in the epoch, random numbers of each process, recipe.

        All processes must ask together.
        """
        return {
            "best_score": self.best_score,
            "epoch_batches": self._epoch_batches,
            "streams": from_all(stream(self._module if self._epoch_batches else None)),
            "config": self.config.model_dump(mode="json"),
            "init_from": self._origin,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from there."""
        self.best_score = float(state_dict["best_score"])
        self._epoch_batches = int(state_dict["epoch_batches"])
        self._streams = state_dict.get("streams") or [state_dict["random"]]

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Tell the data where to continue: `epoch` of a checkpoint counts whole epochs."""
        state = checkpoint["callbacks"][self.state_key]
        file = self.folder / "last.ckpt"
        # Where weights came from at first; a phase that starts from the run's own dense one has
        # moved with its folder. Checkpoints of activsparse 0.1 do not tell.
        recorded = {**state["config"], "init_from": state.get("init_from", self._origin)}
        own = self.config.model_copy(update={"init_from": self._origin})
        odd = differences(parse_config(recorded, str(file)), own)
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
    def _origin(self) -> str | None:
        start = self.config.init_from
        own = start is not None and Path(start) == self.folder / "dense"
        return None if own else start

    @property
    def _way(self) -> tuple[Words, ...]:
        """The way out for a run that has diverged."""
        if self._saved_step is None:
            return (
                "lower ",
                Setting("training.lr"),
                f" (no checkpoint was written yet to {self.folder})",
            )
        file = self.folder / "last.ckpt"
        return (
            f"the last good checkpoint is {file}, of step {self._saved_step}: lower ",
            Setting("training.lr"),
            ", or go on from there in a new run with ",
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


def check_checkpoint(file: Path, module: pl.LightningModule, noted: str) -> None:
    """See that a run can continue from a checkpoint, before anything is restored from it.

    Args:
        file: the last.ckpt of a run folder.
        module: what is to be trained.
        noted: the state key of `Checkpoints`.

    Raises:
        ActivsparseError: it is cut, empty, of another program or of another network.
    """
    content = read_checkpoint(file)
    state = content.get("callbacks", {})
    state = state.get(noted) if isinstance(state, dict) else None
    if not isinstance(state, dict) or not {"config", "epoch_batches", "best_score"} <= state.keys():
        raise ActivsparseError(
            f"{file}: holds weights alone, not where a run was; restore the run's own, or start "
            "another run from these weights (init_from)"
        )
    found, own = _shapes(content["state_dict"]), _shapes(module.state_dict())
    if found != own:
        odd = next(key for key in {**own, **found} if found.get(key) != own.get(key))
        raise ActivsparseError(
            f"{file}: is of another network than config.yaml beside it ({odd} is "
            f"{_size(found.get(odd))} there, {_size(own.get(odd))} here); restore the run's own"
        )


def _shapes(state: dict[str, Any]) -> dict[str, torch.Size | None]:
    # Old checkpoints hold the Sparsifier's state in another form.
    return {
        key: getattr(value, "shape", None)
        for key, value in state.items()
        if STATE not in key.split(".")
    }


def _size(shape: torch.Size | None) -> str:
    return "missing" if shape is None else str(tuple(shape))
