"""A Sparsifier as a Lightning callback, for any LightningModule."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from activsparse.errors import ActivsparseError
from activsparse.masks.stored import STATE
from activsparse.train.callbacks.steps import Step, StepCallback
from activsparse.train.sparsify.sparsifier import Sparsifier
from activsparse.train.sparsify.state import SparsifierState

__all__ = ["SparsifierCallback"]


class SparsifierCallback(StepCallback):
    """Steps a Sparsifier once per optimiser step.

    Either pass a Sparsifier, or its options: then one is made whenever the trainer sets up to fit
    a network that has none yet, on `module.model` if there is such a network, else on the module
    itself, for the module's `example_input_array` and the trainer's number of steps. Its state is
    in the module's `state_dict`, so checkpoints hold it. Validation, tests and predictions leave
    the module as it is, with masks or without; only where they load a checkpoint
    (`ckpt_path=...`), a network without masks is given the checkpoint's.

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
        self._given = sparsifier is not None
        self._example_input = example_input
        self._options = options
        self._loading: RemovableHandle | None = None

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
        """Make the Sparsifier before a checkpoint is loaded.

        Raises:
            ActivsparseError: the module has no example input, or holds another network than that
                of the Sparsifier that was passed.
        """
        present = self._sparsifier
        if present is not None and any(m is present.model for m in pl_module.modules()):
            return
        if stage == "fit":
            if self._given:
                raise ActivsparseError(
                    f"{type(pl_module).__name__} does not hold the network of this "
                    "SparsifierCallback's Sparsifier; pass one made on its network, or options"
                )
            steps = self._options.get("total_steps", ...)
            self._make(pl_module, total_steps=_steps(trainer) if steps is ... else steps)
        elif not self._given and not _has_masks(pl_module):
            before = partial(self._before_loading, pl_module)
            self._loading = pl_module._register_load_state_dict_pre_hook(before)  # type: ignore[no-untyped-call]

    def _before_loading(
        self, pl_module: pl.LightningModule, state: dict[str, Any], prefix: str, *args: Any
    ) -> None:
        """Give a module without masks room for those of the checkpoint that is loaded."""
        if any(STATE in key.split(".") for key in state) and not _has_masks(pl_module):
            # A schedule that has not begun: the checkpoint says what the masks are.
            self._make(pl_module, total_steps=1, begin=1.0, end=1.0)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Wait for no checkpoint any more."""
        if self._loading is not None:
            self._loading.remove()
            self._loading = None

    def _make(self, pl_module: pl.LightningModule, **options: Any) -> None:
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
        self._sparsifier = Sparsifier(
            network, example.to(pl_module.device), **{**self._options, **options}
        )

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count steps from where training starts or resumes.

        Raises:
            ActivsparseError: the masked layers were replaced after the Sparsifier was made.
        """
        super().on_train_start(trainer, pl_module)
        self.sparsifier.check_attached()

    def looks(self) -> bool:
        """Whether the loss of this step decides about masks."""
        return self.sparsifier.needs_loss

    def alike(self) -> tuple[int, ...]:
        """Seed and step, from which masks follow."""
        return self.sparsifier.state.seed, self.sparsifier.current_step

    def on_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, step: Step
    ) -> None:
        """Step with the mean loss of the accumulated batches."""
        self.sparsifier.step(step.loss, agreed=True)


def _has_masks(module: torch.nn.Module) -> bool:
    return any(isinstance(part, SparsifierState) for part in module.modules())


def _steps(trainer: pl.Trainer) -> int:
    steps = trainer.estimated_stepping_batches
    if steps == float("inf"):
        raise ActivsparseError(
            "the trainer has no end, which the schedule of the sparsity needs; set max_epochs or "
            "max_steps, or pass total_steps to SparsifierCallback"
        )
    return int(steps)
