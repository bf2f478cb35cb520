"""A detector as a teacher."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits as cross_entropy

from activsparse.detect.loss import BALANCE, WEIGHTS
from activsparse.train.learning.distill import Teacher

__all__ = ["DetectorTeacher"]


class DetectorTeacher(Teacher):
    """Its boxes and classes count as much as it is sure of an object there.

    So the many places without objects teach only that there are none (Mehta and Ozturk, 2018).
    Temperature does not apply.
    """

    def answer(self, images: Tensor) -> list[Tensor]:
        """Raw numbers by scale, as the student gives them in training."""
        raw: list[Tensor] = self.network.head(self.network.features(images))  # type: ignore
        return raw

    def divergence(self, ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> Tensor:
        """Weighted like the loss of labels, times the batch size; 0 where both are equal."""
        total = ours[0].new_zeros(())
        for y, t, balance in zip(ours, theirs, BALANCE, strict=True):
            y, p = y.float(), t.float().sigmoid()
            sure = p[..., 4:5]
            apart = cross_entropy(y, p, reduction="none")
            apart = apart - cross_entropy(t.float(), p, reduction="none")
            weight = sure / sure.sum().clamp(min=1e-6)
            total = total + WEIGHTS["object"] * balance * apart[..., 4].mean()
            total = total + WEIGHTS["class"] * (weight * apart[..., 5:]).sum() / (y.shape[-1] - 5)
            total = total + WEIGHTS["box"] * (weight * apart[..., :4]).sum()
        return total * len(ours[0])
