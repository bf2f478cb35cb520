"""A Sparsifier as a Lightning callback, for any LightningModule."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor

from activsparse.errors import ActivsparseError
from activsparse.train.sparsifier import Sparsifier

__all__ = ["SparsifierCallback"]


class SparsifierCallback(pl.Callback):
    """Steps a Sparsifier once per optimiser step.

    Either pass a Sparsifier, or its options: then it is made when the trainer sets up, on
    `module.model` if there is such a network, else on the module itself, for the module's
    `example_input_array` and the trainer's number of steps. Its state is in the module's
    `state_dict`, so checkpoints hold it.

    Args:
        sparsifier: an existing Sparsifier of (a part of) the trained module.
        example_input: (N, C, H, W), if the module has no `example_input_array`.
        options: further arguments of `Sparsifier`.
    """

    def __init__(
        self,
        sparsifier: Sparsifier | None = None,
        *,
        example_input: Tensor | None = None,
        **options: Any,
    ) -> None:
        if sparsifier is not None and (options or example_input is not None):
            raise ActivsparseError("pass a Sparsifier or the options of one, not both")
        self._sparsifier = sparsifier
        self._example_input = example_input
        self._options = options
        self._losses: list[Tensor] = []
        self._steps = 0

    @property
    def sparsifier(self) -> Sparsifier:
        """The Sparsifier.

        Raises:
            ActivsparseError: the trainer has not set it up yet.
        """
        if self._sparsifier is None:
            raise ActivsparseError("the Sparsifier is made when the trainer starts; call fit first")
        return self._sparsifier

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Make the Sparsifier before a checkpoint is loaded."""
        if self._sparsifier is not None:
            return
        example = self._example_input
        if example is None:
            given = getattr(pl_module, "example_input_array", None)
            if not isinstance(given, Tensor):
                raise ActivsparseError(
                    f"{type(pl_module).__name__} has no example_input_array; "
                    "pass example_input to SparsifierCallback"
                )
            example = given
        network = getattr(pl_module, "model", None)
        network = network if isinstance(network, torch.nn.Module) else pl_module
        options = dict(self._options)
        options.setdefault("total_steps", _steps(trainer))
        self._sparsifier = Sparsifier(network, example.to(pl_module.device), **options)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count steps from where training starts or resumes.

        Raises:
            ActivsparseError: the masked layers were replaced after the Sparsifier was made.
        """
        self._steps = trainer.global_step
        self.sparsifier.check_attached()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, *args: Any
    ) -> None:
        """Step with the mean loss of the accumulated batches, once the optimiser has stepped."""
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        if isinstance(loss, Tensor):
            # Lightning divides it by the number of accumulated batches.
            self._losses.append(loss.detach() * trainer.accumulate_grad_batches)
        if trainer.global_step == self._steps:
            return
        self._steps = trainer.global_step
        self.sparsifier.step(torch.stack(self._losses).mean() if self._losses else None)
        self._losses.clear()


def _steps(trainer: pl.Trainer) -> int:
    steps = trainer.estimated_stepping_batches
    if steps == float("inf"):
        raise ActivsparseError(
            "the trainer has no end, which the schedule of the sparsity needs; set max_epochs or "
            "max_steps, or pass total_steps to SparsifierCallback"
        )
    return int(steps)
