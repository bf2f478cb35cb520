"""Making the masks of all layers of a network for one step."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from activsparse.errors import ActivsparseError
from activsparse.masks.allocate import Layout, layouts
from activsparse.masks.arrays import FloatMap, Mask
from activsparse.masks.branches import alternate_band, band_of_branch, branches
from activsparse.masks.lattice import MAX_PERIOD
from activsparse.masks.layer import Layer
from activsparse.masks.options import MaskOptions
from activsparse.masks.pattern import refuse_emptied, refuse_unmet
from activsparse.masks.placement import sources_of_zeros
from activsparse.masks.propagate import propagate
from activsparse.masks.score import random_score
from activsparse.masks.select import select
from activsparse.masks.shape import ConvShape

__all__ = ["CANDIDATES", "MaskMaker", "mix_scores", "score_map"]

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
        options: how masks are laid.
        own: names of the layers that were given a sparsity of their own, see `masks.allocate`.

    Raises:
        ActivsparseError: a block that is larger than a layer's map.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        image_size: tuple[int, int],
        options: MaskOptions,
        own: frozenset[str] = frozenset(),
    ) -> None:
        self.layers = list(layers)
        self.shapes = [_shape(layer) for layer in self.layers]
        self.image_size = image_size
        self.options = options
        self.inputs = sources_of_zeros(self.layers, options)
        self.exact = [layer.name in own for layer in self.layers]
        self._branches = branches(self.layers) if options.pattern == "band" else []
        for layer, shape in zip(self.layers, self.shapes, strict=True):
            height, width = shape.output
            if options.block > min(height, width):
                raise ActivsparseError(
                    f"layer {layer.name}: block {options.block} is larger than its map of "
                    f"{height}x{width}; use a smaller block or skip the layer"
                )

    @property
    def pattern(self) -> str:
        """How masks are laid."""
        return self.options.pattern

    def check(self, sparsities: Sequence[float]) -> None:
        """Raise an ActivsparseError naming the layers that cannot have these sparsities."""
        named = [
            (layer.name, shape, sparsity)
            for layer, shape, sparsity in zip(self.layers, self.shapes, sparsities, strict=True)
        ]
        if self.options.pattern != "random":
            refuse_unmet(self.options.pattern, named)
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
            (layer.name, shape.output, float(sparsity), exact)
            for layer, shape, sparsity, exact in zip(
                self.layers, self.shapes, sparsities, self.exact, strict=True
            )
        ]
        options = self.options
        return {
            "pattern": options.pattern,
            "block": int(options.block),
            "criterion": options.criterion,
            "phases": options.phases,
            "share_in_block": bool(options.share_in_block),
            "importance_weight": float(options.importance_weight),
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
        """One bool (OH, OW) per layer, True = computed; see `layouts`."""
        return [layout.mask for layout in self.layouts(seed, step, sparsities, importance)]

    def layouts(
        self,
        seed: int,
        step: int,
        sparsities: Sequence[float],
        importance: Sequence[FloatMap] | None = None,
    ) -> list[Layout]:
        """Each layer's mask and the pattern it got.

        Args:
            seed: of score maps and searched phases.
            step: of training, or the number of a searched candidate.
            sparsities: of the layers.
            importance: float (OH, OW) per layer, mixed into the scores.
        """
        if self.options.pattern == "random":
            masks = self._scored(seed, step, sparsities, importance)
            return [Layout("random", mask) for mask in masks]
        phases = self._phases(seed, step)
        found = layouts(
            self.shapes,
            list(sparsities),
            self.options.pattern,
            phases=phases,
            inputs=self.inputs,
            exact=self.exact,
            names=[layer.name for layer in self.layers],
        )
        if self.options.pattern == "band":
            return self._by_branch(found, sparsities, phases)
        return self._shared(found, sparsities) if self.options.share_in_block else found

    def _scored(
        self,
        seed: int,
        step: int,
        sparsities: Sequence[float],
        importance: Sequence[FloatMap] | None,
    ) -> list[Mask]:
        # Layers of equal size and sparsity share a mask; making it once keeps a step cheap.
        made: dict[tuple[tuple[int, int], float], Mask] = {}
        masks = []
        score = score_map(self.image_size, seed, step)
        for index, (shape, sparsity) in enumerate(zip(self.shapes, sparsities, strict=True)):
            size = shape.output
            if self.options.criterion == "random":
                own = score_map(size, seed, step, index)
            elif importance is None and (size, sparsity) in made:
                masks.append(made[size, sparsity])
                continue
            else:
                own = propagate(score, size)
            if importance is not None:
                own = mix_scores(own, importance[index], self.options.importance_weight)
            mask = made[size, sparsity] = select(own, sparsity, self.options.block)
            masks.append(mask)
        return masks

    def _keeps_a_square(self, size: tuple[int, int], sparsity: float) -> bool:
        # The worst case: the last square to go is one of the largest.
        score = np.zeros(size, dtype=np.float32)
        score[: self.options.block, : self.options.block] = 1
        return bool(select(score, sparsity, self.options.block).any())

    def _by_branch(
        self, found: Sequence[Layout], sparsities: Sequence[float], phases: Sequence[int]
    ) -> list[Layout]:
        """The band of each branch's end, and of the layers before it what that one reads."""
        shapes = {layer.name: shape for layer, shape in zip(self.layers, self.shapes, strict=True)}
        masks = {layer.name: one.mask for layer, one in zip(self.layers, found, strict=True)}
        numbers = {layer.name: at for at, layer in enumerate(self.layers)}
        for branch in self._branches:
            end = numbers[branch[-1]]
            band = alternate_band(self.shapes[end].output[0], sparsities[end], phases[end])
            for name, own in band_of_branch(branch, shapes, band).items():
                masks[name] = own.mask(shapes[name].output, self.image_size)
        return [
            Layout("band" if not masks[x.name].all() else "dense", masks[x.name])
            for x in self.layers
        ]

    def _shared(self, found: Sequence[Layout], sparsities: Sequence[float]) -> list[Layout]:
        first: dict[tuple[int, tuple[int, int], float], Layout] = {}
        return [
            first.setdefault((layer.phase, shape.output, sparsity), layout)
            for layer, shape, layout, sparsity in zip(
                self.layers, self.shapes, found, sparsities, strict=True
            )
        ]

    def _phases(self, seed: int, step: int) -> list[int]:
        """The phase of each layer: a candidate's are random, those of a block still the same."""
        if self.options.phases == "one":
            groups = [0] * len(self.layers)
        elif self.options.phases == "layer":
            groups = list(range(len(self.layers)))
        else:
            groups = [layer.phase for layer in self.layers]
        if step <= CANDIDATES:
            return groups
        shifts = np.random.default_rng([seed, step]).integers(0, MAX_PERIOD, max(groups) + 1)
        return [int(shifts[group]) for group in groups]


def _shape(layer: Layer) -> ConvShape:
    if layer.shape is None:
        raise ActivsparseError(f"layer {layer.name}: cannot be masked ({layer.problem}); skip it")
    return layer.shape


def mix_scores(score: FloatMap, importance: FloatMap, weight: float) -> FloatMap:
    """(1 - weight) score + weight importance, float32 (H, W), each as ranks spread over [0, 1)."""
    return np.asarray((1 - weight) * _ranks(score) + weight * _ranks(importance), dtype=np.float32)


def _ranks(values: FloatMap) -> npt.NDArray[np.float64]:
    order = np.argsort(values, axis=None, kind="stable")
    ranks = np.empty(values.size)
    ranks[order] = np.arange(values.size) / values.size
    return ranks.reshape(values.shape)
