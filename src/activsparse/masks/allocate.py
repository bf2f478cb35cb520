"""Masks for all layers of a network whose mean sparsity is the requested one.

Lattices and tiles come in coarse steps, and not every step saves time: a tenth less of a 14x14 map
takes as long as all of it, a seventh less a fifth less time. So the layers are chosen together: the
masks with the least total cost whose mean sparsity is as requested, no layer far off. Where a layer
reads what another one's mask left zero, its time depends on both masks, and both are chosen for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from activsparse.errors import ActivsparseError
from activsparse.masks.arrays import FloatMap, Mask
from activsparse.masks.budget import Choices, least_cost
from activsparse.masks.chains import chains as in_chains
from activsparse.masks.latency import layer_cost
from activsparse.masks.options import check_sparsity
from activsparse.masks.pattern import (
    NothingKeptError,
    make_mask,
    refuse_emptied,
    refuse_unmet,
    sparsity_of,
)
from activsparse.masks.possible import PossibleMask, possible_masks
from activsparse.masks.shape import ConvShape

FloatArray = npt.NDArray[np.float64]

__all__ = ["LAYER_BOUNDS", "MEAN_TOLERANCE", "Layout", "allocate", "layouts"]

MEAN_TOLERANCE = 0.03
"""How far the mean achieved sparsity may be from the mean requested one."""

LAYER_BOUNDS = {"lattice": (0.1, 0.1), "tiles": (0.1, 0.1), "auto": (1.0, 0.2)}
"""How far a layer's sparsity may be below and above its requested one; where no mask is, the
nearest. A layer that computes more than it has to costs no accuracy, so `auto` may leave those
dense where skipping saves little; above, 0.2 keeps the gaps between tiles at two positions for
requests up to 0.35, and at three or four for 0.5."""

# A mean this close is wanted; the looser ones are for networks of few layers. `auto` is after time
# and takes what it may; what is left of the 0.03 is lost to rounding in `budget`.
_TOLERANCES = {
    "lattice": (0.01, MEAN_TOLERANCE),
    "tiles": (0.01, MEAN_TOLERANCE),
    "auto": (MEAN_TOLERANCE - 0.002, MEAN_TOLERANCE),
}
# Sparsities of a mask that the next layer's time is reckoned for.
_GROUPS = 16
# What a layer's squared miss costs, as a share of the mean cost of a layer: so little that it gives
# up 1 to 3 % of the time saved by leaving some layers dense for others at the upper bound, and
# halves the spread of sparsities in ResNet18 at 0.3 and 0.5.
_EVENNESS = 0.5
_HIGHEST = 0.95
# How far from its sparsity a layer may be that was given its own: as far as tiles round it on maps
# of 6 positions, so that what a target was reckoned with is among the masks.
_EXACT = (0.08, 0.08)


@dataclass(frozen=True)
class Layout:
    """A layer's mask and the pattern it was laid in."""

    laid: str
    mask: Mask

    @property
    def pattern(self) -> str:
        """The pattern the mask has: `dense` where it keeps every position."""
        return "dense" if self.mask.all() else self.laid


def allocate(
    layers: Sequence[ConvShape],
    sparsity: float | Sequence[float],
    pattern: str = "auto",
    *,
    phases: Sequence[int] | None = None,
    score: FloatMap | None = None,
    block: int = 1,
    names: Sequence[str] | None = None,
    inputs: Sequence[int | None] | None = None,
    exact: Sequence[bool] | None = None,
) -> list[Mask]:
    """Make one mask per layer, their mean sparsity within 0.03 of the mean requested one.

    The mean is over layers, unweighted; in networks of more than a few layers it is within 0.012,
    but for `auto`, which takes up to the whole 0.03 above what is requested.
    Pattern `random` with block 1 rounds each layer by itself, as published. Under `tiles` and
    `auto` layers where skipping pays more get more, `auto` reckons in time and `tiles` in
    multiply-adds, within `LAYER_BOUNDS`. The mean can only be missed where a network has very few,
    very small layers, or more sparsity is asked than they have. A layer requested dense stays so.

    Args:
        layers: the convolutions in the order of execution.
        sparsity: requested sparsity, for all layers or one each, in [0, 1).
        pattern: one of `PATTERNS`.
        phases: phase of each layer's pattern; by default a layer's index.
        score: `random` only: score map at the network's input size, propagated to every layer.
        block: `random` only: side of the squares dropped as a whole.
        names: of the layers, for error messages; by default their numbers.
        inputs: `auto` only: for each layer the number of the earlier one whose mask leaves zeros in
            its input, or None where all of the input counts; by default None for all.
        exact: which layers were given a sparsity of their own: they get the nearest there is, and
            the others make up for none of it but what rounding leaves; by default none were.

    Returns:
        One bool (OH, OW) per layer, True = computed.

    Raises:
        ActivsparseError: see `make_mask`; also lists of different lengths.
    """
    found = layouts(
        layers,
        sparsity,
        pattern,
        phases=phases,
        score=score,
        block=block,
        names=names,
        inputs=inputs,
        exact=exact,
    )
    return [layout.mask for layout in found]


def layouts(
    layers: Sequence[ConvShape],
    sparsity: float | Sequence[float],
    pattern: str = "auto",
    *,
    phases: Sequence[int] | None = None,
    score: FloatMap | None = None,
    block: int = 1,
    names: Sequence[str] | None = None,
    inputs: Sequence[int | None] | None = None,
    exact: Sequence[bool] | None = None,
) -> list[Layout]:
    """As `allocate`, with the pattern each layer got; `dense` where that is none."""
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
    refuse_unmet(pattern, list(zip(names, layers, requested, strict=True)))
    if pattern == "band":
        shapes = [layer.output for layer in layers]
        return [
            Layout(pattern, make_mask(pattern, shape, wanted, phase=phase))
            for shape, wanted, phase in zip(shapes, requested, phases, strict=True)
        ]
    if pattern not in LAYER_BOUNDS:
        masks = _by_score(layers, requested, pattern, score, block, names)
        return [Layout(pattern, mask) for mask in masks]

    exact = [False] * len(layers) if exact is None else exact
    choices = [
        _within(
            possible_masks(layer, pattern, phase), wanted, _EXACT if own else LAYER_BOUNDS[pattern]
        )
        for layer, wanted, phase, own in zip(layers, requested, phases, exact, strict=True)
    ]
    chains = [[i] for i in range(len(layers))]
    if pattern == "auto" and inputs is not None:
        chains = in_chains(inputs)
    order = [i for chain in chains for i in chain]
    times = {
        i: _costs(layers[i], choices[i], chain.index(i) > 0) for chain in chains for i in chain
    }
    scale = float(np.mean([cost[0].max() for cost in times.values()])) or 1.0
    table = []
    for chain in chains:
        for i, following in zip(chain, [*chain[1:], None], strict=True):
            misses = np.array([possible.sparsity for possible in choices[i]]) - requested[i]
            matters = following is not None and len(times[following]) > 1
            groups = _group(choices[i]) if matters else np.zeros(len(misses), dtype=np.int64)
            table.append(Choices(misses, times[i] + _EVENNESS * scale * misses**2, groups))
    chosen = dict(zip(order, least_cost(table, _TOLERANCES[pattern]), strict=True))
    found = [of_layer[chosen[i]] for i, of_layer in enumerate(choices)]
    return [
        Layout(possible.pattern, possible.mask(layer.output, phase))
        for possible, layer, phase in zip(found, layers, phases, strict=True)
    ]


def _group(of_layer: Sequence[PossibleMask]) -> npt.NDArray[np.int64]:
    """Masks by their sparsity, which is what they are worth to the layer that reads them."""
    sparsities = np.array([possible.sparsity for possible in of_layer])
    return (sparsities * _GROUPS).astype(np.int64)


def _costs(layer: ConvShape, of_layer: Sequence[PossibleMask], follows: bool) -> FloatArray:
    """(groups of the layer before, masks), or one row where the layer before does not matter."""
    costs = np.array([[possible.cost for possible in of_layer]])
    if follows:
        # All masks of a group are at least as sparse as this.
        zeros = np.arange(_GROUPS)[:, None] / _GROUPS
        kept = np.array([1 - possible.sparsity for possible in of_layer])
        times = layer_cost(layer).live_ms(kept, 1 - zeros)
        times[0] = np.inf  # nothing is known to be zero
        if (times < costs).any():
            return np.asarray(np.minimum(times, costs))
    return costs


def _within(
    found: Sequence[PossibleMask], wanted: float, bounds: tuple[float, float]
) -> list[PossibleMask]:
    """The masks near the request, or the nearest; only the full one where no sparsity is wanted."""
    if not wanted:
        return [found[0]]
    below, above = bounds
    near = [possible for possible in found if -below <= possible.sparsity - wanted <= above]
    return near or [min(found, key=lambda possible: abs(possible.sparsity - wanted))]


def _by_score(
    layers: Sequence[ConvShape],
    requested: Sequence[float],
    pattern: str,
    score: FloatMap | None,
    block: int,
    names: Sequence[str],
) -> list[Mask]:
    """Layer by layer; what blocks miss of the request is carried to the next one."""
    masks = []
    emptied = []
    carry = 0.0
    for layer, wanted, name in zip(layers, requested, names, strict=True):
        target = wanted
        # Single positions are exact, and a layer requested dense stays dense.
        if block > 1 and wanted:
            target = min(max(wanted + carry, 0.0), max(_HIGHEST, wanted))
        try:
            try:
                mask = make_mask(pattern, layer.output, target, score=score, block=block)
            except ActivsparseError:
                # No layer is emptied to make up for others.
                mask = make_mask(pattern, layer.output, wanted, score=score, block=block)
        except NothingKeptError:
            emptied.append((name, layer.output, wanted))
            continue
        except ActivsparseError as error:
            raise ActivsparseError(f"layer {name}: ", error) from error
        masks.append(mask)
        carry += wanted - sparsity_of(mask)
    refuse_emptied(emptied)
    return masks
