"""Moves the average of a network's weights while it is trained."""

from __future__ import annotations

import pytorch_lightning as pl
from torch import nn
from torch.optim.swa_utils import AveragedModel

from activsparse.train.callbacks.steps import Step, StepCallback
from activsparse.train.sparsify.sparsifier import Sparsifier

__all__ = ["Averaging"]


class Averaging(StepCallback):
    """Updates an average after each optimiser step, and gives it the network's present masks.

    It must come after the `SparsifierCallback`. The state is all in the average.

    Args:
        network: what is trained.
        average: made by `train.learning.average.make_average`.
        sparsifier: of the network; None in a dense run.
    """

    def __init__(
        self, network: nn.Module, average: AveragedModel, sparsifier: Sparsifier | None
    ) -> None:
        self.network = network
        self.average = average
        self.sparsifier = sparsifier

    def on_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, step: Step
    ) -> None:
        """Follow the network."""
        self.average.update_parameters(self.network)
        if self.sparsifier is not None:
            self.sparsifier.copy_masks_to(self.average)
