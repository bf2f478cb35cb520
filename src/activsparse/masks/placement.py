"""What the holes of a layer's mask hold, and whose holes reach whose input."""

from __future__ import annotations

from collections.abc import Sequence

from activsparse.masks.layer import Layer
from activsparse.masks.options import MaskOptions

__all__ = ["fill_of", "sources_of_zeros"]


def fill_of(layer: Layer, options: MaskOptions) -> str:
    """`zero` or `nearest`: under fill `auto` zero where a shortcut is added, which fills it."""
    if options.fill != "auto":
        return options.fill
    return "zero" if layer.added else "nearest"


def sources_of_zeros(layers: Sequence[Layer], options: MaskOptions) -> list[int | None]:
    """For each masked layer the number of the one whose mask leaves zeros in its input."""
    # Before a batch norm a zero does not stay one.
    zeros = {
        layer.name: number
        for number, layer in enumerate(layers)
        if fill_of(layer, options) == "zero" and (options.site == "norm" or not layer.normed)
    }
    return [None if layer.source is None else zeros.get(layer.source) for layer in layers]
