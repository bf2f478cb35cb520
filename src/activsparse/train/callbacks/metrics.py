"""What a run tells about its progress: metrics as CSV and for TensorBoard."""

from __future__ import annotations

import csv
import logging
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from activsparse.files import atomic_path
from activsparse.train.callbacks.steps import Step, StepCallback
from activsparse.train.learning.learner import Learner
from activsparse.train.sparsify.sparsifier import Sparsifier

__all__ = ["Metrics", "TensorBoard"]

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
        assert isinstance(pl_module, Learner)
        for key in pl_module.logged:
            row[key] = round(float(values[key]), 6)
        sparsifier = self.sparsifier
        phase = "dense" if sparsifier is None else sparsifier.phase
        row["sparsity"] = 0.0 if sparsifier is None else round(sparsifier.achieved_sparsity, 6)
        row["frozen"] = float(sparsifier is None or sparsifier.frozen)
        row["lr"] = trainer.optimizers[0].param_groups[0]["lr"]
        row["seconds"] = round(self.seconds, 3)
        self._started = time.monotonic()
        self.rows.append(row)
        if trainer.is_global_zero:
            self._write(row)
        if self.announce and trainer.is_global_zero:
            _log.info(
                "epoch %d/%s (%s): loss %.4f, validation %s %.2f %%, sparsity %.3f, %.1f s",
                row["epoch"],
                trainer.max_epochs,
                phase,
                row["train_loss"],
                pl_module.figures[0],
                100 * row[f"val_{pl_module.figures[0]}"],
                row["sparsity"],
                row["seconds"],
            )

    def _write(self, row: dict[str, float]) -> None:
        with atomic_path(self.folder / "metrics.csv") as path, path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(row))
            writer.writeheader()
            writer.writerows({k: f"{v:g}" for k, v in r.items()} for r in self.rows)

    def state_dict(self) -> dict[str, Any]:
        """Rows so far."""
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue them."""
        self.rows = list(state_dict["rows"])


class TensorBoard(StepCallback):
    """Writes loss, learning rate and sparsity of every tenth step, and the metrics of each epoch.

    Args:
        folder: of the event files.
        metrics: whose rows are written too; it must come earlier in the trainer's callbacks.
        sparsifier: whose sparsity is written; None in a dense run.
    """

    _EVERY = 10

    def __init__(self, folder: Path, metrics: Metrics, sparsifier: Sparsifier | None) -> None:
        self.folder = folder
        self.metrics = metrics
        self.sparsifier = sparsifier
        self._writer: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Open; what an interrupted run wrote after its last checkpoint is replaced."""
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero:
            from torch.utils.tensorboard import SummaryWriter

            self._writer = SummaryWriter(str(self.folder), purge_step=trainer.global_step)

    def on_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, step: Step
    ) -> None:
        """Write a step."""
        number = trainer.global_step
        if self._writer is None or number % self._EVERY:
            return
        sparsity = 0.0 if self.sparsifier is None else self.sparsifier.achieved_sparsity
        self._writer.add_scalar("step/loss", step.loss, number)
        self._writer.add_scalar("step/lr", trainer.optimizers[0].param_groups[0]["lr"], number)
        self._writer.add_scalar("step/sparsity", sparsity, number)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write an epoch."""
        if self._writer is not None:
            for key, value in self.metrics.rows[-1].items():
                self._writer.add_scalar(f"epoch/{key}", value, trainer.global_step)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Close."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
