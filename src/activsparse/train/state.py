"""What a Sparsifier remembers between steps, as buffers, so that `state_dict` holds all of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from activsparse.train.schedule import Schedule

__all__ = ["SparsifierState"]


class SparsifierState(nn.Module):
    """Step counter and search memory of a Sparsifier.

    Score maps are not stored: they follow from (`seed`, step), so the best one is remembered by its
    step.

    Attributes:
        seed: int64 scalar, seed of all score maps.
        step: int64 scalar, optimiser steps done.
        best_step: int64 scalar, the pruning step with the lowest training loss so far, -1 before
            the first.
        best_loss: float32 scalar, that loss.
        frozen: int64 scalar, 1 once the masks are final.
        bypass: whether forward passes in training mode leave the masks out now. It follows from the
            buffers and the schedule; a plain attribute, because a forward pass must not read a
            tensor.
    """

    seed: Tensor
    step: Tensor
    best_step: Tensor
    best_loss: Tensor
    frozen: Tensor

    def __init__(self, seed: int, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.register_buffer("seed", torch.tensor(seed))
        self.register_buffer("step", torch.tensor(0))
        self.register_buffer("best_step", torch.tensor(-1))
        self.register_buffer("best_loss", torch.tensor(float("inf"), dtype=torch.float32))
        # No bool: torch averages the buffers of weights it averages, and cannot subtract those.
        self.register_buffer("frozen", torch.tensor(0))
        self.bypass = False
        self.refresh()
        self.register_load_state_dict_post_hook(_refresh_after_load)  # type: ignore[no-untyped-call]

    @property
    def runs_dense(self) -> bool:
        """Whether a forward pass leaves the masks out now.

        The model's mode counts, not that of a masked norm, which may be frozen in evaluation mode.
        """
        return self.training and self.bypass

    def refresh(self) -> None:
        """Derive what is not stored from what is."""
        self.bypass = not bool(self.frozen) and self.schedule.is_dense_step(int(self.step))

    def remember(self, step: int, loss: float) -> None:
        """Note the training loss under the masks of `step`; the lowest one stays."""
        value = torch.tensor(loss, dtype=torch.float32)
        if value.item() < self.best_loss.item():
            self.best_loss.copy_(value)
            self.best_step.fill_(step)

    def forward(self, x: Any) -> Any:
        """Return `x`: inside an `nn.Sequential` the state is called like a layer."""
        return x

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> SparsifierState:
        # Follow the model to its device, but not to a lower precision: model.half() must not round
        # the best loss.
        def moved(tensor: Tensor) -> Tensor:
            result = fn(tensor)
            return result if result.dtype == tensor.dtype else tensor.to(result.device)

        super()._apply(moved, recurse)  # type: ignore[no-untyped-call]
        return self


def _refresh_after_load(module: nn.Module, incompatible_keys: Any) -> None:
    assert isinstance(module, SparsifierState)
    module.refresh()
