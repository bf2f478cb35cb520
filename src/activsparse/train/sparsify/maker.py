"""Making the masks of all layers for one step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from activsparse.errors import ActivsparseError
from activsparse.masks import (
    PATTERNS,
    ConvShape,
    FloatMap,
    Mask,
    allocate,
    propagate,
    random_score,
    select,
)
from activsparse.masks.lattice import MAX_PERIOD
from activsparse.masks.pattern import refuse_emptied, refuse_unmet
from activsparse.names import suggest
from activsparse.train.sparsify.layers import ConvLayer

__all__ = ["CANDIDATES", "CRITERIA", "PHASES", "MaskMaker", "mix_scores", "score_map"]

CRITERIA = ("lnorm", "random")
PHASES = ("block", "layer", "one")
CANDIDATES = 2**32
"""Steps from here on are no steps of training but numbers of searched candidates."""


def score_map(size: tuple[int, int], seed: int, step: int, layer: int | None = None) -> FloatMap:
    """The score map of a step: uniform in [0, 1), float32 (H, W), a pure function of its arguments.

    It is drawn by `numpy.random.default_rng([seed, step])`, or, for the independent maps of
    criterion `random`, `default_rng([seed, step, layer + 1])`.
    """
    entropy = [seed, step] if layer is None else [seed, step, layer + 1]
    return random_score(size, np.random.default_rng(entropy))


class MaskMaker:
    """Masks of all masked layers as a pure function of (seed, step, sparsities).

    Args:
        layers: the masked layers in the order of execution.
        image_size: (H, W) of the network's input, the size of score maps.
        pattern: `random`, `lattice`, `tiles` or `auto`.
        block: `random` only: side of the squares dropped as a whole.
        criterion: `random` only: `lnorm` propagates one score map to all layers, `random` draws one
            in each.
        inputs: `auto` only: see `masks.allocate`.
        phases: the regular patterns only: whether each residual `block`, each `layer`, or none but
            `one` for all is shifted in another way.
        importance_weight: `random` only: what share of a position's score its importance has.
        share_in_block: whether layers of a residual block with equal output sizes and sparsities
            get one mask, that of the first.
        exact: which layers were given a sparsity of their own, see `masks.allocate`.

    Raises:
        ActivsparseError: an unknown pattern, criterion or choice of phases, or a block that does
            not fit.
    """

    def __init__(
        self,
        layers: Sequence[ConvLayer],
        image_size: tuple[int, int],
        *,
        pattern: str = "tiles",
        block: int = 1,
        criterion: str = "lnorm",
        inputs: Sequence[int | None] | None = None,
        phases: str = "block",
        importance_weight: float = 0.0,
        share_in_block: bool = False,
        exact: Sequence[bool] | None = None,
    ) -> None:
        for option, value, known in (
            ("pattern", pattern, PATTERNS),
            ("criterion", criterion, CRITERIA),
            ("phases", phases, PHASES),
        ):
            if value not in known:
                raise ActivsparseError(f"{option} {value!r} is unknown; {suggest(value, known)}")
        if not 0.0 <= importance_weight <= 1.0:
            raise ActivsparseError(f"importance_weight {importance_weight} is outside [0, 1]")
        if importance_weight and pattern != "random":
            raise ActivsparseError(
                f"importance_weight: pattern {pattern} has no scores to weigh; use pattern random"
            )
        if block < 1 or (block > 1 and pattern != "random"):
            raise ActivsparseError(
                f"block {block} needs to be 1 or, with pattern random, larger; set block 1"
            )
        for layer in layers:
            size = layer.shape.output
            if block > min(size):
                raise ActivsparseError(
                    f"layer {layer.name}: block {block} is larger than its map of "
                    f"{size[0]}x{size[1]}; use a smaller block or skip the layer"
                )
        self.layers = list(layers)
        self.image_size = image_size
        self.pattern = pattern
        self.block = block
        self.criterion = criterion
        self.inputs = inputs
        self.phases = phases
        self.importance_weight = importance_weight
        self.share_in_block = share_in_block
        self.exact = [False] * len(self.layers) if exact is None else list(exact)

    def check(self, sparsities: Sequence[float]) -> None:
        """Raise an ActivsparseError naming the layers that cannot have these sparsities."""
        named = [
            (layer.name, layer.shape, sparsity)
            for layer, sparsity in zip(self.layers, sparsities, strict=True)
        ]
        if self.pattern != "random":
            refuse_unmet(self.pattern, named)
        else:
            refuse_emptied(
                [
                    (name, shape.output, sparsity)
                    for name, shape, sparsity in named
                    if not self._keeps_a_square(shape.output, sparsity)
                ]
            )

    def describe(self, sparsities: Sequence[float]) -> dict[str, Any]:
        """All that decides masks of these final sparsities besides seed and step, as JSON takes it.

        Equal descriptions mean equal masks. Its length does not grow with the number of layers.
        """
        layers = [
            (layer.name, layer.shape.output, float(sparsity), exact)
            for layer, sparsity, exact in zip(self.layers, sparsities, self.exact, strict=True)
        ]
        return {
            "pattern": self.pattern,
            "block": int(self.block),
            "criterion": self.criterion,
            "phases": self.phases,
            "share_in_block": bool(self.share_in_block),
            "importance_weight": float(self.importance_weight),
            "input size": list(self.image_size),
            "mean sparsity": round(float(np.mean(sparsities)), 6),
            "digest of layers": hashlib.sha256(json.dumps(layers).encode()).hexdigest()[:16],
        }

    def masks(
        self,
        seed: int,
        step: int,
        sparsities: Sequence[float],
        importance: Sequence[FloatMap] | None = None,
    ) -> list[Mask]:
        """One bool (OH, OW) per layer, True = computed.

        Args:
            seed: of score maps and searched phases.
            step: of training, or the number of a searched candidate.
            sparsities: of the layers.
            importance: float (OH, OW) per layer, mixed into the scores.
        """
        if self.pattern != "random":
            shapes: list[ConvShape] = [layer.shape for layer in self.layers]
            phases = self._phases(seed, step)
            masks = allocate(
                shapes,
                list(sparsities),
                self.pattern,
                phases=phases,
                inputs=self.inputs,
                exact=self.exact,
            )
            return self._shared(masks, sparsities) if self.share_in_block else masks
        # Layers of equal size and sparsity share a mask; making it once keeps a step cheap.
        made: dict[tuple[tuple[int, int], float], Mask] = {}
        masks = []
        score = score_map(self.image_size, seed, step)
        for index, (layer, sparsity) in enumerate(zip(self.layers, sparsities, strict=True)):
            size = layer.shape.output
            if self.criterion == "random":
                own = score_map(size, seed, step, index)
            elif importance is None and (size, sparsity) in made:
                masks.append(made[size, sparsity])
                continue
            else:
                own = propagate(score, size)
            if importance is not None:
                own = mix_scores(own, importance[index], self.importance_weight)
            mask = made[size, sparsity] = select(own, sparsity, self.block)
            masks.append(mask)
        return masks

    def _keeps_a_square(self, size: tuple[int, int], sparsity: float) -> bool:
        # The worst case: the last square to go is one of the largest.
        score = np.zeros(size, dtype=np.float32)
        score[: self.block, : self.block] = 1
        return bool(select(score, sparsity, self.block).any())

    def _shared(self, masks: Sequence[Mask], sparsities: Sequence[float]) -> list[Mask]:
        first: dict[tuple[int, tuple[int, int], float], Mask] = {}
        return [
            first.setdefault((layer.block, layer.shape.output, sparsity), mask)
            for layer, mask, sparsity in zip(self.layers, masks, sparsities, strict=True)
        ]

    def _phases(self, seed: int, step: int) -> list[int]:
        """The phase of each layer: a candidate's are random, those of a block still the same."""
        if self.phases == "one":
            groups = [0] * len(self.layers)
        elif self.phases == "layer":
            groups = list(range(len(self.layers)))
        else:
            groups = [layer.block for layer in self.layers]
        if step <= CANDIDATES:
            return groups
        shifts = np.random.default_rng([seed, step]).integers(0, MAX_PERIOD, max(groups) + 1)
        return [int(shifts[group]) for group in groups]


def mix_scores(score: FloatMap, importance: FloatMap, weight: float) -> FloatMap:
    """(1 - weight) score + weight importance, float32 (H, W), each as ranks spread over [0, 1)."""
    return np.asarray((1 - weight) * _ranks(score) + weight * _ranks(importance), dtype=np.float32)


def _ranks(values: FloatMap) -> npt.NDArray[np.float64]:
    order = np.argsort(values, axis=None, kind="stable")
    ranks = np.empty(values.size)
    ranks[order] = np.arange(values.size) / values.size
    return ranks.reshape(values.shape)
