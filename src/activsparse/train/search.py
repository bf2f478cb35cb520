"""Making the masks of all layers for one step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from activsparse.errors import ActivsparseError
from activsparse.masks import (
    PATTERNS,
    ConvShape,
    FloatMap,
    Mask,
    allocate,
    make_mask,
    propagate,
    random_score,
    select,
)
from activsparse.train.layers import ConvLayer
from activsparse.train.names import suggest

__all__ = ["CRITERIA", "MaskMaker", "score_map"]

CRITERIA = ("lnorm", "random")


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

    Raises:
        ActivsparseError: an unknown pattern or criterion, or a block that does not fit.
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
    ) -> None:
        if pattern not in PATTERNS:
            raise ActivsparseError(f"pattern {pattern!r} is unknown; {suggest(pattern, PATTERNS)}")
        if criterion not in CRITERIA:
            raise ActivsparseError(
                f"criterion {criterion!r} is unknown; {suggest(criterion, CRITERIA)}"
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

    def check(self, sparsities: Sequence[float]) -> None:
        """Raise an ActivsparseError naming the layer that `sparsities` leave without positions."""
        for layer, sparsity in zip(self.layers, sparsities, strict=True):
            shape = layer.shape
            score = np.zeros(shape.output, dtype=np.float32)
            try:
                make_mask(
                    self.pattern, shape.output, sparsity, score=score, block=self.block, conv=shape
                )
            except ActivsparseError as error:
                raise ActivsparseError(f"layer {layer.name}: {error}") from error

    def masks(self, seed: int, step: int, sparsities: Sequence[float]) -> list[Mask]:
        """One bool (OH, OW) per layer, True = computed."""
        if self.pattern != "random":
            shapes: list[ConvShape] = [layer.shape for layer in self.layers]
            phases = [layer.block for layer in self.layers]
            return allocate(
                shapes, list(sparsities), self.pattern, phases=phases, inputs=self.inputs
            )
        if self.criterion == "random":
            return [
                select(score_map(layer.shape.output, seed, step, index), sparsity, self.block)
                for index, (layer, sparsity) in enumerate(zip(self.layers, sparsities, strict=True))
            ]
        score = score_map(self.image_size, seed, step)
        # Layers of equal size and sparsity share a mask; making it once keeps a step cheap.
        made: dict[tuple[tuple[int, int], float], Mask] = {}
        for layer, sparsity in zip(self.layers, sparsities, strict=True):
            key = (layer.shape.output, sparsity)
            if key not in made:
                made[key] = select(propagate(score, key[0]), sparsity, self.block)
        return [
            made[layer.shape.output, s] for layer, s in zip(self.layers, sparsities, strict=True)
        ]
