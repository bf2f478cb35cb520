"""What a report shows, as plain data, and how to gather it from sessions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from activsparse.bench.compare import OWN_ENGINE, Comparison, Row
from activsparse.masks import Savings

if TYPE_CHECKING:
    from activsparse.engine.report import NodeReport
    from activsparse.masks.mask_plan import MaskPlan

__all__ = ["Difference", "Layer", "Loss", "Report", "Variant", "layers_of", "times_of"]


@dataclass(frozen=True)
class Layer:
    """One masked convolution as our engine runs it; see `Session.explain`.

    Attributes:
        sparsity: share of its output positions that are not computed.
        achieved: share of its algorithm's multiply-adds that the engine skips for it.
        reason: why nothing is skipped; empty where something is.
        macs: its multiply-adds without a mask.
    """

    name: str
    algorithm: str
    sparsity: float
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
        savings: what its masks leave out of it.
        masks: layer name to bool map (OH, OW), True = computed.
        times_ms: layer name to what our engine takes for it, masked or not, in the network's order.
        said: the class it says of each test image, (N,); None where nobody asked.
        plan: the masks it was trained with, with their estimated times and measured losses.
    """

    name: str
    model: str
    top1: float
    requested: float | None = None
    layers: Sequence[Layer] = ()
    masks: Mapping[str, npt.NDArray[np.bool_]] = field(default_factory=dict)
    times_ms: Mapping[str, float] = field(default_factory=dict)
    said: npt.NDArray[np.int64] | None = None
    plan: MaskPlan | None = None
    savings: Savings = field(default_factory=Savings)

    @property
    def work_saved(self) -> float | None:
        """Share of the masked layers' work that the engine's algorithms skip; None without any."""
        if not self.layers:
            return None
        return Savings.of((x.achieved, x.macs) for x in self.layers).sparsity


@dataclass(frozen=True)
class Loss:
    """What one layer loses alone under a mask: a line of `activsparse sensitivity`.

    Attributes:
        requested: share of its positions that are skipped.
        increase: of the loss above the dense network's.
    """

    layer: str
    requested: float
    increase: float


@dataclass(frozen=True)
class Difference:
    """A test image of which two networks say different classes.

    Attributes:
        image: (H, W) or (H, W, 3), float in [0, 1].
        label, dense, masked: the right class, and what each says.
        variant: name of the masked network.
    """

    image: npt.NDArray[np.float32]
    label: str
    dense: str
    masked: str
    variant: str


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
        labels: the right class of each test image, (N,); None where nobody asked.
        classes: their names; empty where they have none.
        differences: images of which networks say different things.
        losses: what single layers lose.
    """

    title: str
    summary: str
    variants: Sequence[Variant]
    comparison: Comparison
    images: Sequence[npt.NDArray[np.float32]]
    settings: Mapping[str, str]
    labels: npt.NDArray[np.int64] | None = None
    classes: Sequence[str] = ()
    differences: Sequence[Difference] = ()
    losses: Sequence[Loss] = ()

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

    def agreement(self) -> list[tuple[str, list[int], float]]:
        """How each other network's answers meet the dense one's.

        Returns:
            Its name; how many images both get right, the dense one alone, this one alone, neither;
            the share of images they say the same of.
        """
        if self.labels is None or self.dense.said is None:
            return []
        one = self.dense.said == self.labels
        found = []
        for variant in self.variants[1:]:
            if variant.said is None:
                continue
            other = variant.said == self.labels
            counts = [one & other, one & ~other, ~one & other, ~one & ~other]
            same = float(np.mean(self.dense.said == variant.said))
            found.append((variant.name, [int(np.sum(each)) for each in counts], same))
        return found

    def class_name(self, label: int) -> str:
        """What a class is called."""
        return self.classes[label] if label < len(self.classes) else str(label)


def layers_of(nodes: Sequence[NodeReport]) -> list[Layer]:
    """The masked layers among an engine's operators."""
    return [
        Layer(
            node.name,
            node.algorithm,
            node.sparsity or 0.0,
            node.achieved or 0.0,
            node.time_ms,
            node.reason,
            node.dense_macs,
        )
        for node in nodes
        if node.requested is not None
    ]


def times_of(nodes: Sequence[NodeReport]) -> dict[str, float]:
    """What each operator with multiply-adds takes, in ms, by its layer's name."""
    return {
        node.name: node.time_ms for node in nodes if node.dense_macs and node.time_ms is not None
    }
