"""Masks for all layers of a network whose mean sparsity is the requested one.

Lattices and tiles come in coarse steps, so single layers miss the requested sparsity. As in error
diffusion the miss is carried to the next layer: a network at 0.1 gets tiles dropped in some layers
and none in others, which saves time, where dropping a tenth of each layer would only make ragged
tiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from activsparse.errors import ActivsparseError
from activsparse.masks.arrays import FloatMap, Mask
from activsparse.masks.pattern import (
    ConvShape,
    auto_pattern,
    check_sparsity,
    make_mask,
    sparsity_of,
)

__all__ = ["MEAN_TOLERANCE", "allocate"]

MEAN_TOLERANCE = 0.03
"""How far the mean achieved sparsity may be from the mean requested one."""

# From loose to strict: (tolerance of a single layer's tiles, sum of misses a lattice ignores).
# Loose layers save the most tiles and share one lattice; stricter ones are needed only when there
# are few layers to even out the misses.
_STRICTNESS = ((0.06, 0.1), (0.03, 0.03), (0.0, 0.0))
_HIGHEST = 0.95


def allocate(
    layers: Sequence[ConvShape],
    sparsity: float | Sequence[float],
    pattern: str = "auto",
    *,
    phases: Sequence[int] | None = None,
    score: FloatMap | None = None,
    block: int = 1,
    names: Sequence[str] | None = None,
) -> list[Mask]:
    """Make one mask per layer, their mean sparsity within 0.03 of the mean requested one.

    The mean is over layers, unweighted. Pattern `random` with block 1 rounds each layer by itself,
    as published. The mean can only be missed where a network has very few, very small layers, or
    more sparsity is asked than they have.

    Args:
        layers: the convolutions in the order of execution.
        sparsity: requested sparsity, for all layers or one each, in [0, 1).
        pattern: one of `PATTERNS`.
        phases: phase of each layer's pattern; by default a layer's index.
        score: `random` only: score map at the network's input size, propagated to every layer.
        block: `random` only: side of the squares dropped as a whole.
        names: of the layers, for error messages; by default their numbers.

    Returns:
        One bool (OH, OW) per layer, True = computed.

    Raises:
        ActivsparseError: see `make_mask`; also lists of different lengths.
    """
    requested = (
        list(sparsity) if isinstance(sparsity, Sequence) else [float(sparsity)] * len(layers)
    )
    phases = list(range(len(layers))) if phases is None else list(phases)
    if not len(requested) == len(phases) == len(layers):
        raise ActivsparseError(
            f"{len(layers)} layers, {len(requested)} sparsities, {len(phases)} phases; "
            "pass one of each per layer"
        )
    for value in requested:
        check_sparsity(value)
    if not layers:
        return []
    names = [f"number {i}" for i in range(len(layers))] if names is None else names
    parts = [
        _Layer(name, shape, auto_pattern(shape) if pattern == "auto" else pattern, wanted, phase)
        for name, shape, wanted, phase in zip(names, layers, requested, phases, strict=True)
    ]

    best: list[Mask] = []
    best_miss = float("inf")
    for tolerance, ignored in _STRICTNESS:
        masks = _diffuse(parts, score, block, tolerance, ignored)
        miss = abs(sum(map(sparsity_of, masks)) - sum(requested)) / len(layers)
        if miss < best_miss:
            best, best_miss = masks, miss
        if best_miss <= MEAN_TOLERANCE:
            break
    return best


@dataclass(frozen=True)
class _Layer:
    name: str
    shape: ConvShape
    pattern: str
    requested: float
    phase: int

    def target(self, carry: float, block: int, ignored: float) -> float:
        """The sparsity to aim at when the layers before missed `carry` in sum."""
        # Neighbouring layers with the same lattice skip what their neighbour skips, so leave small
        # misses alone; and a layer the user wants dense stays dense.
        single_positions = self.pattern == "random" and block == 1
        small = self.pattern == "lattice" and abs(carry) <= ignored
        if single_positions or small or not self.requested:
            return self.requested
        return min(max(self.requested + carry, 0.0), max(_HIGHEST, self.requested))


def _diffuse(
    layers: Sequence[_Layer],
    score: FloatMap | None,
    block: int,
    tolerance: float,
    ignored: float,
) -> list[Mask]:
    def make(layer: _Layer, sparsity: float) -> Mask:
        return make_mask(
            layer.pattern,
            layer.shape.output,
            sparsity,
            score=score,
            block=block,
            phase=layer.phase,
            tolerance=tolerance,
        )

    masks = []
    carry = 0.0
    for layer in layers:
        target = layer.target(carry, block, ignored)
        try:
            try:
                mask = make(layer, target)
            except ActivsparseError:
                # No layer is emptied to make up for others.
                mask = make(layer, layer.requested)
        except ActivsparseError as error:
            raise ActivsparseError(f"layer {layer.name}: {error}") from error
        masks.append(mask)
        carry += layer.requested - sparsity_of(mask)
    return masks
