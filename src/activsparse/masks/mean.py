"""The sparsity of a whole network, in the one sense in which it is shown, and what it saves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["SAVED_IS", "SPARSITY_IS", "Savings"]

SPARSITY_IS = (
    "share of the masked layers' output positions that are not computed, mean weighted by "
    "multiply-adds"
)
SAVED_IS = "share of all convolutions' multiply-adds that masks leave out"


@dataclass(frozen=True)
class Savings:
    """What masks leave out of a network, as it is defined, whatever an engine makes of it.

    Attributes:
        sparsity: `SPARSITY_IS`. A position of a layer counts as much as the multiply-adds it takes,
            so this is the share of the masked layers' multiply-adds, too.
        saved: `SAVED_IS`; less than `sparsity` where some convolutions have no mask.
    """

    sparsity: float = 0.0
    saved: float = 0.0

    @classmethod
    def of(cls, layers: Iterable[tuple[float, float]], macs: float = 0.0) -> Savings:
        """Savings of masked layers.

        Args:
            layers: (sparsity, multiply-adds without the mask) of each masked layer.
            macs: multiply-adds of all convolutions, without masks; by default of the masked ones.
        """
        layers = list(layers)
        skipped = sum(sparsity * own for sparsity, own in layers)
        masked = sum(own for _, own in layers)
        whole = macs or masked
        return cls(skipped / masked if masked else 0.0, skipped / whole if whole else 0.0)

    def __str__(self) -> str:
        """Both in words, for lines that stand alone."""
        return (
            f"sparsity {self.sparsity:.3f} ({SPARSITY_IS}); multiply-adds saved: {self.saved:.3f} "
            "of all convolutions'"
        )
