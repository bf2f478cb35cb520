"""A progress bar of a training phase."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from activsparse.train.learning.learner import Learner
from activsparse.train.sparsify.sparsifier import Sparsifier

__all__ = ["TrainingProgress"]


class TrainingProgress(pl.Callback):
    """Shows epoch, steps, loss, validation accuracy and sparsity.

    Args:
        title: name of the phase.
        console: where to.
        sparsifier: whose sparsity is shown; None in a dense phase.
    """

    def __init__(self, title: str, console: Console, sparsifier: Sparsifier | None) -> None:
        self.sparsifier = sparsifier
        self.bar = Progress(
            TextColumn(f"[bold]{title}[/] epoch {{task.fields[epoch]}}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}  {task.fields[score]}"),
            TextColumn("{task.fields[phase]} {task.fields[sparsity]}"),
            TimeRemainingColumn(),
            console=console,
        )
        self.task = self.bar.add_task(
            title, total=None, epoch="-", loss="-", score="", phase="", sparsity=""
        )
        self._loss: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start."""
        total = int(trainer.num_training_batches) * (trainer.max_epochs or 1)
        self.bar.update(self.task, total=total)
        self.bar.start()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Advance."""
        loss = float(outputs["loss"]) * trainer.accumulate_grad_batches
        self._loss = loss if self._loss is None else 0.95 * self._loss + 0.05 * loss
        done = trainer.current_epoch * int(trainer.num_training_batches)
        self.bar.update(
            self.task,
            completed=done + trainer.fit_loop.batch_idx + 1,
            epoch=f"{trainer.current_epoch + 1}/{trainer.max_epochs}",
            loss=f"{self._loss:.3f}",
        )

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Show accuracy and sparsity."""
        assert isinstance(pl_module, Learner)
        name = pl_module.figures[0]
        score = f"{name} {100 * float(trainer.callback_metrics[f'val_{name}']):.1f} %"
        sparsity = 0.0 if self.sparsifier is None else self.sparsifier.achieved_sparsity
        self.bar.update(self.task, score=score, sparsity=f"{sparsity:.2f}")

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, *args: Any
    ) -> None:
        """Say which phase it is."""
        phase = "dense" if self.sparsifier is None else self.sparsifier.phase
        self.bar.update(self.task, phase=phase)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Stop."""
        self.bar.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        """Leave the terminal as it was."""
        self.bar.stop()
