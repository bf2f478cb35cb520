"""What a run leaves on disk while it trains: metrics and checkpoints."""

from __future__ import annotations

import csv
import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from activsparse.data import ImageData
from activsparse.files import atomic_path
from activsparse.train.interrupt import Interrupted, Interruption
from activsparse.train.sparsifier import Sparsifier

__all__ = ["Checkpoints", "Metrics"]

_log = logging.getLogger(__name__)


class Metrics(pl.Callback):
    """Writes `metrics.csv`, one row per epoch; a resumed run continues it.

    Args:
        folder: the run folder.
        sparsifier: whose sparsity is noted; None in a dense run.
        announce: whether each epoch is logged as well.
    """

    def __init__(self, folder: Path, sparsifier: Sparsifier | None, announce: bool) -> None:
        self.folder = folder
        self.sparsifier = sparsifier
        self.announce = announce
        self.rows: list[dict[str, float]] = []
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Time spent training, interruptions left out."""
        return (self.rows[-1]["seconds"] if self.rows else 0.0) + time.monotonic() - self._started

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Add the epoch's row."""
        values = trainer.callback_metrics
        row = {"epoch": float(trainer.current_epoch + 1), "step": float(trainer.global_step)}
        for key in ("train_loss", "train_top1", "val_loss", "val_top1"):
            row[key] = round(float(values[key]), 6)
        sparsifier = self.sparsifier
        row["sparsity"] = 0.0 if sparsifier is None else round(sparsifier.achieved_sparsity, 6)
        row["frozen"] = float(sparsifier is None or sparsifier.frozen)
        row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        row["seconds"] = round(self.seconds, 3)
        self._started = time.monotonic()
        self.rows.append(row)
        with atomic_path(self.folder / "metrics.csv") as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerows({k: f"{v:g}" for k, v in r.items()} for r in self.rows)
        if self.announce:
            _log.info(
                "epoch %d: loss %.4f, validation top-1 %.2f %%, sparsity %.3f",
                row["epoch"],
                row["train_loss"],
                100 * row["val_top1"],
                row["sparsity"],
            )

    def state_dict(self) -> dict[str, Any]:
        """Rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue them."""
        self.rows = list(state_dict["rows"])


class Checkpoints(pl.Callback):
    """Writes `last.ckpt` after each epoch and on interruption, `best.ckpt` with final masks.

    It must be the last callback, so that what it saves is complete. A resumed run continues inside
    the epoch it was stopped in, with the same batches and random numbers.

    Args:
        folder: the run folder.
        sparsifier: best.ckpt waits until its masks are frozen; None in a dense run.
        data: told where to continue.
        interruption: asked after each step.
    """

    def __init__(
        self,
        folder: Path,
        sparsifier: Sparsifier | None,
        data: ImageData,
        interruption: Interruption,
    ) -> None:
        self.folder = folder
        self.sparsifier = sparsifier
        self.data = data
        self.interruption = interruption
        self.best_top1 = -1.0
        self._epoch_batches = 0
        self._random: torch.Tensor | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Continue the stream of random numbers (dropout)."""
        if self._random is not None:
            torch.set_rng_state(self._random)
            self._random = None

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        """Stop here if asked to; an epoch that is complete is first validated."""
        self._epoch_batches = trainer.fit_loop.batch_idx + 1
        if self.interruption.requested and self._epoch_batches < self.data.steps_per_epoch:
            self._save(trainer, "last.ckpt")
            raise Interrupted

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Save."""
        self._epoch_batches = 0
        top1 = float(trainer.callback_metrics["val_top1"])
        final = self.sparsifier is None or self.sparsifier.frozen
        if final and top1 > self.best_top1:
            self.best_top1 = top1
            self._save(trainer, "best.ckpt", weights_only=True)
        self._save(trainer, "last.ckpt")
        if self.interruption.requested:
            raise Interrupted

    def state_dict(self) -> dict[str, Any]:
        """Best score, position in the epoch, random numbers."""
        return {
            "best_top1": self.best_top1,
            "epoch_batches": self._epoch_batches,
            "random": torch.get_rng_state(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from there."""
        self.best_top1 = float(state_dict["best_top1"])
        self._epoch_batches = int(state_dict["epoch_batches"])
        self._random = state_dict["random"].cpu()

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Tell the data where to continue: `epoch` of a checkpoint counts whole epochs."""
        batches = checkpoint["callbacks"][self.state_key]["epoch_batches"]
        # Saved at an epoch's end, the epoch's own number is in the checkpoint, yet it is over.
        epoch = int(checkpoint["epoch"]) + (0 if batches else 1)
        self.data.resume(epoch, batches)

    def _save(self, trainer: pl.Trainer, name: str, weights_only: bool = False) -> None:
        with atomic_path(self.folder / name) as path:
            trainer.save_checkpoint(path, weights_only)
