"""Pad."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from activsparse.engine.graph import Node
from activsparse.engine.passes.convert.chain import Chain
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
        if not plane:
            source.fail(f"it pads {shape} in mode '{mode}'", "only height and width can be")
        return chain.done(_repeated(source, chain, x, mode, before, behind))
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
        source.fail("its pads are missing", "export the model again")
    axes = list(range(rank))
    if source.has(3):
        axes = [int(axis) % rank for axis in source.constant(3, "axes").reshape(-1)]
    if len(amounts) != 2 * len(axes):
        source.fail(f"it has {len(amounts)} pads for {len(axes)} axes", "export the model again")
    full = np.zeros((2, rank), np.int64)
    full[:, axes] = np.reshape(amounts, (2, -1))
    return full[0], full[1]


def _repeated(
    source: Source, chain: Chain, x: str, mode: str, before: np.ndarray, behind: np.ndarray
) -> str:
    """Every position of the result as a position of the source."""
    h, w = chain.shape(x)[2:]
    most = {"edge": (math.inf, math.inf), "reflect": (h - 1, w - 1), "wrap": (h, w)}[mode]
    if any(max(before[2 + i], behind[2 + i]) > most[i] for i in (0, 1)):
        source.fail(f"it pads {h}x{w} positions by more than there are", "use mode edge")
    widths = ((int(before[2]), int(behind[2])), (int(before[3]), int(behind[3])))
    positions = np.pad(np.arange(h * w).reshape(h, w), widths, mode=mode)  # type: ignore[call-overload]
    arrays = {"source": np.ascontiguousarray(positions.reshape(-1), np.int32)}
    return chain.add("resize_positions", x, shape=source.output_shape, arrays=arrays)
