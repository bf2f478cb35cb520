"""The masks of a mask plan in a network that is trained."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from activsparse.files import file_path
from activsparse.masks import FloatMap, Mask
from activsparse.masks.lattice import MAX_PERIOD
from activsparse.masks.maker import CANDIDATES
from activsparse.masks.mask_plan import MaskPlan
from activsparse.masks.mask_plan_file import read_mask_plan
from activsparse.train.sparsify.layers import ConvLayer

__all__ = ["PlannedMasks", "as_plan", "planned_layers"]


def as_plan(plan: MaskPlan | str | Path) -> MaskPlan:
    """The plan itself, or what a file holds.

    Raises:
        ActivsparseError: see `read_mask_plan`.
    """
    return plan if isinstance(plan, MaskPlan) else read_mask_plan(file_path(plan, "plan"))


def planned_layers(
    layers: Sequence[ConvLayer], plan: MaskPlan, image_size: tuple[int, int]
) -> tuple[dict[str, float], dict[str, str]]:
    """Split layers into the masked and the others as `request_sparsities` does.

    Returns:
        Sparsity of each masked layer, and why each other layer is dense.

    Raises:
        ActivsparseError: the plan is of another network or input size.
    """
    plan.check({layer.name: layer.shape for layer in layers if not layer.problem}, image_size)
    sparsities = plan.sparsities()
    requested = {layer.name: sparsities[layer.name] for layer in layers if layer.name in sparsities}
    skipped = {
        layer.name: layer.problem or "dense in the mask plan"
        for layer in layers
        if layer.name not in requested
    }
    return requested, skipped


class PlannedMasks:
    """Makes the plan's masks in every step, as `MaskMaker` makes those of its options.

    A searched candidate has the phases of its regular patterns shifted, layers of one phase alike;
    a candidate is made only where a search among phases is asked for.

    Args:
        layers: the masked layers in the order of execution.
        plan: checked against the network.
    """

    pattern = "plan"
    importance_weight = 0.0

    def __init__(self, layers: Sequence[ConvLayer], plan: MaskPlan) -> None:
        self.layers = list(layers)
        self.plan = plan
        self._masks = plan.masks()

    def check(self, sparsities: Sequence[float]) -> None:
        """Nothing is left to check: the masks exist."""

    def describe(self, sparsities: Sequence[float]) -> dict[str, Any]:
        """What decides the masks, as `MaskMaker.describe`."""
        masks = "".join(
            f"{layer.name}{self._masks[layer.name].tobytes()!r}{self.fills[layer.name]}"
            for layer in self.layers
        )
        return {
            "pattern": self.pattern,
            "input size": list(self.plan.input_size),
            "mean sparsity": round(float(np.mean(sparsities)), 6),
            "digest of layers": hashlib.sha256(masks.encode()).hexdigest()[:16],
        }

    @property
    def fills(self) -> dict[str, str]:
        """What the holes of each layer hold."""
        return {name: layer.fill for name, layer in self.plan.masked().items()}

    def masks(
        self,
        seed: int,
        step: int,
        sparsities: Sequence[float],
        importance: Sequence[FloatMap] | None = None,
    ) -> list[Mask]:
        """One bool (OH, OW) per layer; the plan's, whatever the step of training."""
        masks = self._masks
        if step > CANDIDATES:
            phases = sorted({getattr(x.exact, "phase", 0) for x in self.plan.layers.values()})
            shifts = np.random.default_rng([seed, step]).integers(0, MAX_PERIOD, len(phases))
            masks = self.plan.shifted(dict(zip(phases, shifts.tolist(), strict=True))).masks()
        return [masks[layer.name] for layer in self.layers]
