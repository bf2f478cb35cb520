"""ScatterND and ScatterElements of constant indices, as torch exports `y[...] = z`."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from activsparse.engine.graph import Array, Node, Shape
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.selection import inside, picked, take
from activsparse.engine.passes.convert.source import Source

__all__ = ["scatter_elements", "scatter_nd"]

_MOST_PIECES = 16  # along an axis, beyond which one operator that picks elements does it


def scatter_elements(source: Source) -> list[Node]:
    """ScatterElements, and Scatter as it was called at first: along an axis."""
    shape, indices = source.shape(), source.constant(1, "index")
    axis = int(source.attribute("axis", 0)) % len(shape)
    at: list[Array] = list(np.indices(indices.shape))
    at[axis] = inside(source, indices, shape[axis])
    return _written(source, np.asarray(np.ravel_multi_index(tuple(at), shape)))


def scatter_nd(source: Source) -> list[Node]:
    """ScatterND: along the leading axes."""
    shape, indices = source.shape(), source.constant(1, "index")
    depth = indices.shape[-1]
    first = np.zeros(indices.shape[:-1], np.int64)
    for axis, size in enumerate(shape[:depth]):
        first = first * size + inside(source, indices[..., axis], size)
    rest = math.prod(shape[depth:])
    return _written(source, first[..., None] * rest + np.arange(rest))


def _written(source: Source, places: Array) -> list[Node]:
    """The data with the updates at some of its elements, int64, in the updates' order."""
    if source.attribute("reduction", "none") != "none":
        source.fail("it adds up or compares what it writes", "only reduction none is supported")
    shape, chain = source.shape(), Chain(source)
    data, updates = source.activation(0), source.activation(2)
    taken = np.full(math.prod(shape), -1, np.int64)  # which update an element takes
    taken[places.reshape(-1)] = np.arange(places.size)
    box = _box(taken.reshape(shape))
    if box is None or max(map(len, map(_pieces, box, shape))) > _MOST_PIECES:
        both = [chain.reshape(data, (taken.size,)), chain.reshape(updates, (places.size,))]
        flat = chain.join(both, 0)
        chosen = np.where(taken < 0, np.arange(taken.size), taken.size + taken)
        return chain.done(picked(chain, flat, [0], chosen, shape))
    value = chain.reshape(updates, [len(at) for at in box])
    for axis in reversed(range(len(shape))):
        value = _among(chain, data, value, box[: axis + 1], shape)
    return chain.done(value)


def _box(taken: Array) -> list[Array] | None:
    """The coordinates along each axis whose crossings take the updates in their order."""
    places = np.nonzero(taken >= 0)
    box = [np.unique(along) for along in places]
    crossings = taken[np.ix_(*box)].reshape(-1)
    return box if np.array_equal(crossings, np.arange(crossings.size)) else None


def _pieces(at: Array, size: int) -> list[tuple[bool, int, int]]:
    """Runs of an axis: whether they are among the coordinates, where they start and end."""
    among = np.isin(np.arange(size), at)
    breaks = [0, *(np.flatnonzero(np.diff(among)) + 1).tolist(), size]
    return [(bool(among[start]), start, end) for start, end in itertools.pairwise(breaks)]


def _among(chain: Chain, data: str, value: str, box: Sequence[Array], shape: Shape) -> str:
    """`value` between what the data hold beside it along the last axis of the box."""
    axis = len(box) - 1
    pieces = _pieces(box[axis], shape[axis])
    if len(pieces) == 1:
        return value
    for before, at in enumerate(box[:-1]):
        if len(at) < shape[before]:
            data = take(chain, data, before, at)
    parts, first = [], 0
    for written, start, end in pieces:
        if written:
            parts.append(chain.slice(value, axis, first, end - start))
            first += end - start
        else:
            parts.append(chain.slice(data, axis, start, end - start))
    return chain.join(parts, axis)
