"""What a report shows, as plain data, and how to gather it from sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from activsparse.bench.compare import OWN_ENGINE, Comparison, Row
from activsparse.masks import mean_sparsity

if TYPE_CHECKING:
    from activsparse.engine.report import NodeReport

__all__ = ["Layer", "Report", "Variant", "layers_of"]


@dataclass(frozen=True)
class Layer:
    """One masked convolution as our engine runs it; see `Session.explain`.

    Attributes:
        requested: share of output positions the mask drops.
        achieved: share of the layer's multiply-adds that the engine skips for it.
        reason: why nothing is skipped; empty where something is.
        macs: its multiply-adds without a mask.
    """

    name: str
    algorithm: str
    requested: float
    achieved: float
    time_ms: float | None
    reason: str
    macs: float = 1.0


@dataclass(frozen=True)
class Variant:
    """One trained network: the dense one or a sparse one.

    Attributes:
        name: short label of tables and plots.
        model: its ONNX file, spelled as in the comparison's rows.
        top1: share of test images classified rightly.
        requested: sparsity asked for; None for the dense network.
        layers: its masked layers; empty for the dense network.
        masks: layer name to bool map (OH, OW), True = computed.
    """

    name: str
    model: str
    top1: float
    requested: float | None = None
    layers: Sequence[Layer] = ()
    masks: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)

    @property
    def achieved(self) -> float | None:
        """Share of the masked layers' multiply-adds that the engine skips; None without any."""
        if not self.layers:
            return None
        return mean_sparsity((x.achieved for x in self.layers), (x.macs for x in self.layers))


@dataclass(frozen=True)
class Report:
    """Everything a report shows.

    Attributes:
        title: headline.
        summary: a sentence or two under it.
        variants: the dense network first.
        comparison: times of all variants on all engines.
        images: sample images (H, W) or (H, W, 3), float in [0, 1].
        settings: label to value, how the figures came about.
    """

    title: str
    summary: str
    variants: Sequence[Variant]
    comparison: Comparison
    images: Sequence[npt.NDArray[np.float32]]
    settings: Mapping[str, str]

    @property
    def dense(self) -> Variant:
        """The network everything is compared with."""
        return self.variants[0]

    def own_row(self, variant: Variant) -> Row:
        """The row of our engine on this variant."""
        return next(
            row
            for row in self.comparison.rows
            if row.engine == OWN_ENGINE and row.model == variant.model
        )


def layers_of(nodes: Sequence[NodeReport]) -> list[Layer]:
    """The masked layers among an engine's operators."""
    return [
        Layer(
            node.name,
            node.algorithm,
            node.requested,
            node.achieved or 0.0,
            node.time_ms,
            node.reason,
            node.dense_macs,
        )
        for node in nodes
        if node.requested is not None
    ]
