"""Gather, GatherND and Where with constant indices and conditions.

Axes that are selected along become the positions of an image whose channels are all others:
`resize_positions` takes any of them in any order, `mask_multiply` leaves some out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from activsparse.engine.graph import Array, Node
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.source import Source

__all__ = ["gather", "gather_nd", "inside", "picked", "take", "where"]

_MOST_RUNS = 8  # of a Gather, beyond which one operator that picks positions does it


def gather(source: Source) -> list[Node]:
    """Gather of constant indices along an axis."""
    axis = int(source.attribute("axis", 0)) % len(source.shape())
    indices = source.constant(1, "index")
    taken = inside(source, indices, source.shape()[axis])
    chain = Chain(source)
    return chain.done(take(chain, source.activation(), axis, taken))


def take(chain: Chain, x: str, axis: int, indices: Array) -> str:
    """`x` at some positions of an axis; the indices' axes stand in its place.

    A few runs of neighbours are slices.
    """
    shape, taken, sizes = chain.shape(x), indices.reshape(-1), list(indices.shape)
    breaks = [0, *(np.flatnonzero(np.diff(taken) != 1) + 1).tolist(), taken.size]
    if len(breaks) - 1 > _MOST_RUNS:
        before = [i for i in range(len(shape)) if i != axis]
        y = picked(chain, x, [axis], taken, sizes)
        # The new axes are last, and belong where the old one was.
        new = list(range(len(before), len(before) + len(sizes)))
        return chain.transpose(y, [*range(axis), *new, *range(axis, len(before))])
    parts = [
        chain.slice(x, axis, int(taken[start]), end - start)
        for start, end in itertools.pairwise(breaks)
    ]
    return chain.reshape(chain.join(parts, axis), (*shape[:axis], *sizes, *shape[axis + 1 :]))


def gather_nd(source: Source) -> list[Node]:
    """GatherND of constant indices."""
    shape, indices = source.shape(), source.constant(1, "index")
    depth = indices.shape[-1]
    if source.attribute("batch_dims", 0):
        source.fail("it gathers in batches", "only batch_dims 0 is supported")
    sizes = shape[:depth]
    flat = np.zeros(indices.shape[:-1], np.int64)
    for axis, size in enumerate(sizes):
        flat = flat * size + inside(source, indices[..., axis], size)
    chain = Chain(source)
    new = list(indices.shape[:-1])
    y = picked(chain, source.activation(), list(range(depth)), flat.reshape(-1), new)
    rest = len(shape) - depth
    return chain.done(chain.transpose(y, [*range(rest, rest + len(new)), *range(rest)]))


def where(source: Source) -> list[Node]:
    """Where: with a constant condition of values and of constants, else of values."""
    if not source.is_constant(0):
        chain = Chain(source)
        operands = [source.activation(index) for index in range(3)]
        return chain.done(chain.select(*operands))
    condition = source.constant(0, "condition").astype(bool)
    shape = source.output_shape
    whole = condition.reshape((1,) * (len(shape) - condition.ndim) + condition.shape)
    chain, total = Chain(source), ""
    shift: Array = np.zeros(1, np.float32)
    for index, chosen in ((1, whole), (2, ~whole)):
        if not chosen.any():
            continue
        if source.is_constant(index):
            values = source.weights(index, "value")
            shift = shift + np.where(chosen, values, np.float32(0))
            continue
        value = source.activation(index)
        if chain.shape(value) != shape:
            value = chain.expand(value, shape)
        part = _left(chain, value, chosen)
        total = chain.add("add", total, part) if total else part
    if not total:  # constants only
        return chain.done(chain.constant(shift, shape))
    return chain.done(chain.line(total, 1.0, shift) if shift.any() else total)


def inside(source: Source, indices: Array, size: int) -> Array:
    """Indices of an axis, counted from its start; an error where one leaves it."""
    taken = np.where(indices < 0, indices + size, indices).astype(np.int64)
    if not taken.size or taken.min() < 0 or taken.max() >= size:
        source.wrong(f"its indices leave an axis of size {size}", "export the model again")
    return taken


def _as_positions(chain: Chain, x: str, axes: Sequence[int]) -> tuple[str, list[int]]:
    """`x` as an image (1, R, P, 1) whose P positions are the axes, and the others' sizes."""
    shape = chain.shape(x)
    others = [axis for axis in range(len(shape)) if axis not in axes]
    moved = chain.transpose(x, [*others, *axes])
    sizes = [shape[axis] for axis in others]
    positions = math.prod(shape[axis] for axis in axes)
    return chain.reshape(moved, (1, math.prod(sizes), positions, 1)), sizes


def picked(chain: Chain, x: str, axes: Sequence[int], positions: Array, new: Sequence[int]) -> str:
    """Some positions of the axes together, as axes of the sizes `new` behind the others."""
    image, sizes = _as_positions(chain, x, axes)
    arrays = {"source": np.ascontiguousarray(positions, np.int32)}
    shape = (1, chain.shape(image)[1], positions.size, 1)
    y = chain.add("resize_positions", image, shape=shape, arrays=arrays)
    return chain.reshape(y, (*sizes, *new))


def _left(chain: Chain, x: str, chosen: Array) -> str:
    """`x` with zeros where it is not chosen, whatever it holds there."""
    axes = [axis for axis, size in enumerate(chosen.shape) if size > 1]
    if chosen.all():
        return x
    shape = chain.shape(x)
    image, sizes = _as_positions(chain, x, axes)
    mask = chosen.reshape(-1, 1).astype(np.uint8)
    y = chain.add("mask_multiply", image, arrays={"mask": np.ascontiguousarray(mask)})
    y = chain.reshape(y, (*sizes, *(shape[axis] for axis in axes)))
    others = [axis for axis in range(len(shape)) if axis not in axes]
    return chain.transpose(y, np.argsort([*others, *axes]).tolist())
