"""Distillation: learning from a teacher's answers besides the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from activsparse.errors import ActivsparseError

__all__ = ["Teacher"]


class Teacher:
    """A trained network and what is learnt from it.

    It is no module of the student's, so it is neither trained nor saved with it.

    Args:
        network: images (N, C, H, W) to what the student gives; set to evaluation mode, frozen.
        mean: per channel, how the student's images are normalised.
        std: alike.
        own_mean: how the teacher's are; None means as the student's.
        own_std: alike.
        weight: of the divergence in the loss.
        only: whether the labels are left out.
        temperature: both softmaxes' logits are divided by it; the divergence is multiplied by its
            square, which keeps the gradients' size (arXiv 1503.02531).

    Raises:
        ActivsparseError: statistics for another number of channels.
    """

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float],
        std: Sequence[float],
        *,
        own_mean: Sequence[float] | None = None,
        own_std: Sequence[float] | None = None,
        weight: float = 5.0,
        only: bool = False,
        temperature: float = 1.0,
    ) -> None:
        self.network = network.eval().requires_grad_(False)
        self.weight = weight
        self.only = only
        self.temperature = temperature
        own_mean, own_std = own_mean or mean, own_std or std
        if len(own_mean) != len(mean) or len(own_std) != len(std):
            raise ActivsparseError(
                f"distillation: mean and std need a value for each of {len(mean)} channels; "
                "correct or leave out distillation.mean and distillation.std"
            )
        # x std + mean is the image itself; then the teacher's normalisation.
        theirs = torch.tensor(own_std)[:, None, None]
        self._scale = torch.tensor(std)[:, None, None] / theirs
        self._shift = (torch.tensor(mean) - torch.tensor(own_mean))[:, None, None] / theirs
        self._same = own_mean == mean and own_std == std

    def to(self, device: torch.device) -> Teacher:
        """Move it, in place."""
        self.network.to(device)
        self._scale, self._shift = self._scale.to(device), self._shift.to(device)
        return self

    def loss(self, images: Tensor, outputs: Any, label_loss: Tensor) -> Tensor:
        """The whole loss: divergence from the teacher, times the weight, plus the label loss.

        Args:
            images: (N, C, H, W), normalised as the student's.
            outputs: the student's, as its loss takes them: logits (N, classes) of a classifier.
            label_loss: scalar.
        """
        with torch.no_grad():
            theirs = self.answer(images if self._same else images * self._scale + self._shift)
        learnt = self.weight * self.divergence(outputs, theirs)
        return learnt if self.only else label_loss + learnt

    def answer(self, images: Tensor) -> Any:
        """The teacher's outputs in the form of the student's, for images normalised its own way."""
        return self.network(images)

    def divergence(self, ours: Any, theirs: Any) -> Tensor:
        """How far the student's outputs are from the teacher's."""
        t = self.temperature
        return (
            t
            * t
            * functional.kl_div(
                functional.log_softmax(ours.float() / t, 1),
                functional.log_softmax(theirs.float() / t, 1),
                reduction="batchmean",
                log_target=True,
            )
        )
