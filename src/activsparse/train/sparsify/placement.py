"""Where a layer's mask acts, and what its holes hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from activsparse.errors import ActivsparseError
from activsparse.names import suggest
from activsparse.train.sparsify.layers import ConvLayer

__all__ = ["FILLS", "SITES", "LayerReport", "Placement"]

FILLS = ("zero", "nearest", "auto")
SITES = ("norm", "conv")


@dataclass(frozen=True)
class LayerReport:
    """A masked layer.

    Attributes:
        name: module name of the convolution.
        host: name of the module that holds the mask.
        shape: (OH, OW).
        requested: final sparsity asked for.
        achieved: sparsity of the present mask.
        macs: dense multiply-adds of one image.
    """

    name: str
    host: str
    shape: tuple[int, int]
    requested: float
    achieved: float
    macs: int


@dataclass(frozen=True)
class Placement:
    """The options `fill` and `site` of a `Sparsifier`, which explains them.

    Attributes:
        fill: of all layers, `auto` among others.
        site: of all layers.
        fills: of single layers, as a mask plan has them.

    Raises:
        ActivsparseError: an unknown fill or site.
    """

    fill: str
    site: str
    fills: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for option, value, valid in (("fill", self.fill, FILLS), ("site", self.site, SITES)):
            if value not in valid:
                raise ActivsparseError(f"{option} {value!r} is unknown; {suggest(value, valid)}")

    def host(self, layer: ConvLayer) -> str:
        """Name of the module after which the layer is masked."""
        return layer.norm if self.site == "norm" and layer.norm is not None else layer.name

    def fill_of(self, layer: ConvLayer) -> str:
        """`zero` or `nearest`."""
        if layer.name in self.fills:
            return self.fills[layer.name]
        if self.fill != "auto":
            return self.fill
        return "zero" if layer.added else "nearest"

    def inputs(self, layers: Sequence[ConvLayer]) -> list[int | None]:
        """For each masked layer the number of the one whose mask leaves zeros in its input."""
        # Before a batch norm a zero does not stay one.
        zeros = {
            layer.name: i
            for i, layer in enumerate(layers)
            if self.fill_of(layer) == "zero" and (self.site == "norm" or layer.norm is None)
        }
        sources = (layer.source for layer in layers)
        return [None if source is None else zeros.get(source) for source in sources]
