"""torchvision's networks that label every pixel, to be checked and timed with random weights."""

from __future__ import annotations

from torch import nn

from activsparse.errors import ActivsparseError

__all__ = ["build_segmenter", "is_segmenter"]


def is_segmenter(name: str) -> bool:
    """Whether torchvision has a network of this name that segments."""
    try:
        from torchvision import models
    except ImportError:
        return False
    return name in models.list_models(module=models.segmentation)


def build_segmenter(name: str, num_classes: int = 21) -> nn.Module:
    """Build one, without the head that only training needs.

    Raises:
        ActivsparseError: torchvision has none of this name.
    """
    from torchvision import models

    if not is_segmenter(name):
        raise ActivsparseError(f"model {name!r} is none of torchvision's that segment")
    model: nn.Module = models.get_model(
        name, weights=None, weights_backbone=None, num_classes=num_classes
    )
    return model
