"""A classifier on what a timm network gives as features, which may end at any of its stages."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

__all__ = ["PREFIX", "FeatureClassifier"]

PREFIX = "features."
"""Of the timm network's weights."""


class FeatureClassifier(nn.Module):
    """The mean over the positions of the last feature map, and a linear layer.

    Args:
        features: made by `timm.create_model(..., features_only=True)`; takes (N, C, H, W).
        num_classes: of the head.
    """

    def __init__(self, features: Any, num_classes: int) -> None:
        super().__init__()
        self.features = features
        self.head = nn.Linear(features.feature_info.channels()[-1], num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, num_classes)."""
        logits: Tensor = self.head(self.features(images)[-1].mean((2, 3)))
        return logits
