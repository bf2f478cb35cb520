"""Pad."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from activsparse.engine.graph import Node, Shape
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.selection import take
from activsparse.engine.passes.convert.source import Source

__all__ = ["SIDES", "framed", "pad"]

SIDES = ("pad_top", "pad_left", "pad_bottom", "pad_right")

# That repeat what is there; numpy calls them the same.
_MODES = ("edge", "reflect", "wrap")


def pad(source: Source) -> list[Node]:
    """Pad; zeros around an image stay one node, for `fold_pad` to merge into a convolution."""
    shape = source.shape()
    before, behind = _amounts(source, len(shape))
    mode = source.attribute("mode", "constant")
    value = float(np.asarray(source.setting("value", 2, 0.0)).reshape(-1)[0])
    chain, x = Chain(source), source.activation()
    for axis in range(len(shape)):  # negative ones cut
        cut = [max(-before[axis], 0), max(-behind[axis], 0)]
        if any(cut):
            x = chain.slice(x, axis, cut[0], chain.shape(x)[axis] - sum(cut))
    before, behind = np.maximum(before, 0), np.maximum(behind, 0)
    if not (before.any() or behind.any()):
        return chain.done(x)
    plane = len(shape) == 4 and not (before[:2].any() or behind[:2].any())
    if mode in _MODES:
        _check_amounts(source, chain.shape(x), mode, np.maximum(before, behind))
        if plane:
            return chain.done(_repeated(source, chain, x, mode, before, behind))
        for axis in np.flatnonzero(before + behind).tolist():
            x = take(chain, x, axis, _padded(chain.shape(x)[axis], before, behind, axis, mode))
        return chain.done(x)
    if mode != "constant":
        source.fail(f"its mode is '{mode}'", f"use constant, {', '.join(_MODES)}")
    if plane and value == 0:
        amounts = map(int, (*before[2:], *behind[2:]))
        attributes: dict[str, Any] = dict(zip(SIDES, amounts, strict=True))
        return chain.done(chain.add("pad", x, shape=source.output_shape, **attributes))
    return chain.done(framed(chain, x, before.tolist(), behind.tolist(), value))


def framed(chain: Chain, x: str, before: list[int], behind: list[int], value: float) -> str:
    """`x` with so many elements of `value` before and behind it along each axis."""
    for axis in range(len(before)):
        pieces = [x]
        for amounts, first in ((before, True), (behind, False)):
            if amounts[axis]:
                size = list(chain.shape(x))
                size[axis] = amounts[axis]
                frame = chain.constant(np.full([1] * len(size), value), size)
                pieces.insert(0 if first else len(pieces), frame)
        x = chain.join(pieces, axis)
    return x


def _amounts(source: Source, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """What is added before and behind each axis."""
    amounts = source.setting("pads", 1)
    if amounts is None:  # opset 1 called them paddings
        source.wrong("its pads are missing", "export the model again")
    axes = list(range(rank))
    if source.has(3):
        axes = [int(axis) % rank for axis in source.constant(3, "axes").reshape(-1)]
    if len(amounts) != 2 * len(axes):
        source.wrong(f"it has {len(amounts)} pads for {len(axes)} axes", "export the model again")
    full = np.zeros((2, rank), np.int64)
    full[:, axes] = np.reshape(amounts, (2, -1))
    return full[0], full[1]


def _check_amounts(source: Source, sizes: Shape, mode: str, most: np.ndarray) -> None:
    """Nothing repeats more than there is, but the edge."""
    there = [math.inf if mode == "edge" else size - (mode == "reflect") for size in sizes]
    if any(amount > size for amount, size in zip(most, there, strict=True)):
        text = "x".join(map(str, sizes))
        source.fail(f"it pads {text} positions by more than there are", "use mode edge")


def _padded(size: int, before: np.ndarray, behind: np.ndarray, axis: int, mode: str) -> np.ndarray:
    """Of an axis of the result the positions in the source."""
    width = (int(before[axis]), int(behind[axis]))
    positions: np.ndarray = np.pad(np.arange(size), width, mode=mode)  # type: ignore[call-overload]
    return positions


def _repeated(
    source: Source, chain: Chain, x: str, mode: str, before: np.ndarray, behind: np.ndarray
) -> str:
    """Every position of an image's result as a position of the source."""
    h, w = chain.shape(x)[2:]
    rows, columns = (_padded(size, before, behind, axis, mode) for axis, size in ((2, h), (3, w)))
    positions = rows[:, None] * w + columns
    arrays = {"source": np.ascontiguousarray(positions.reshape(-1), np.int32)}
    return chain.add("resize_positions", x, shape=source.output_shape, arrays=arrays)
