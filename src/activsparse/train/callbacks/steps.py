"""Steps of the optimiser, counted in one place, and what all processes agree about in each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from activsparse.distributed import agree

__all__ = ["Step", "StepCallback"]


@dataclass(frozen=True)
class Step:
    """A finished step of the optimiser.

    Attributes:
        loss: mean over its batches and all processes; None where nobody looks at it.
        stop: whether any process is asked to stop.
    """

    loss: float | None
    stop: bool


class StepCallback(pl.Callback):
    """A callback with one hook more, `on_optimizer_step`.

    The first one of a trainer counts for all: it gathers the losses of accumulated batches, speaks
    with the other processes, once, and calls the hook of each in their order. So a step costs one
    collective operation, however many look at it, and none where nobody does.
    """

    stops = False
    """Whether this process is asked to stop; read once per step."""

    _counted = 0
    _losses: tuple[Tensor, ...] = ()

    def looks(self) -> bool:
        """Whether the coming `on_optimizer_step` needs its `step`; alike in all processes."""
        return False

    def alike(self) -> tuple[int, ...]:
        """Numbers that must be equal in all processes."""
        return ()

    def on_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, step: Step
    ) -> None:
        """Called after each step of the optimiser, when `trainer.global_step` counts it."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count from where training starts or resumes."""
        self._counted, self._losses = trainer.global_step, ()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Note a batch, and a step if it completes one."""
        listeners = [c for c in trainer.callbacks if isinstance(c, StepCallback)]  # type: ignore[attr-defined]
        if listeners[0] is not self:
            return
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            # Lightning divides it by the number of accumulated batches.
            self._losses += (loss.detach() * trainer.accumulate_grad_batches,)
        if trainer.global_step == self._counted:
            return
        self._counted = trainer.global_step
        own = torch.stack(self._losses).mean() if self._losses else None
        self._losses = ()
        step = Step(None, False)
        if any(c.looks() for c in listeners):
            numbers = [n for c in listeners for n in c.alike()]
            stops = any(c.stops for c in listeners)
            step = Step(*agree(own, stops, *numbers, device=pl_module.device))
        for listener in listeners:
            listener.on_optimizer_step(trainer, pl_module, step)
