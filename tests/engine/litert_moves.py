"""Operators of .tflite files that move whole pixels, of random sizes, for files of either type."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from numpy.typing import NDArray


def _still(f: Any, op: str, inputs: list[int], shape: tuple[int, ...], options: Any) -> int:
    """Quantised values keep their scale; they came with the second version of all but one."""
    if not hasattr(f, "scales"):
        return int(f.add(op, inputs, shape, options))
    return int(f.add(op, inputs, shape, options, f.scales[inputs[0]], 1 if op == "RESHAPE" else 2))


def reshaped(f: Any, x: int, *shape: int) -> int:
    options = schema.ReshapeOptionsT()
    options.newShape = list(shape)
    return _still(f, "RESHAPE", [x, f.constant(np.array(shape, np.int32))], shape, options)


def gathered(f: Any, x: int, index: NDArray[Any], axis: int) -> int:
    options = schema.GatherOptionsT()
    options.axis = axis
    shape = list(f.shapes[x])
    shape[axis] = index.size
    return _still(f, "GATHER", [x, f.constant(index.astype(np.int32))], tuple(shape), options)


def nearest_fill(f: Any, x: int) -> int:
    """As `activsparse convert` writes it."""
    n, h, w, c = f.shapes[x]
    kept = f.rng.random(h * w) < 0.6
    kept[0] = True
    source = np.where(kept, np.arange(h * w), f.rng.choice(np.flatnonzero(kept), h * w))
    return reshaped(f, gathered(f, reshaped(f, x, n, h * w, c), source, 1), n, h, w, c)


def any_gather(f: Any, x: int) -> int:
    """Positions may be copied from such as are copied themselves, or left out."""
    n, h, w, c = f.shapes[x]
    y = reshaped(f, x, n, h * w, c)
    y = gathered(f, y, f.rng.integers(0, h * w, 3 * w), 1)
    return reshaped(f, y, n, 3, w, c)


def rows(f: Any, x: int) -> int:
    return gathered(f, x, f.rng.integers(0, f.shapes[x][1], 5), 1)


def columns(f: Any, x: int) -> int:
    return gathered(f, x, f.rng.integers(0, f.shapes[x][2], 7), -2)


def nearest(corners: bool, half: bool) -> Callable[[Any, int], int]:
    def make(f: Any, x: int) -> int:
        n, h, w, c = f.shapes[x]
        options = schema.ResizeNearestNeighborOptionsT()
        options.alignCorners, options.halfPixelCenters = corners, half
        sizes = (2 * h, 2 * w) if f.rng.random() < 0.5 else f.rng.integers(1, 25, 2)
        size = f.constant(np.array(sizes, np.int32))
        shape = (n, int(sizes[0]), int(sizes[1]), c)
        return _still(f, "RESIZE_NEAREST_NEIGHBOR", [x, size], shape, options)

    return make


def strided_slice(f: Any, x: int) -> int:
    sizes, slices = f.shapes[x], []
    options = schema.StridedSliceOptionsT()
    for axis, size in enumerate(sizes):
        stride = int(f.rng.choice([1, 2, -1])) if axis in (1, 2) else 1
        begin, end = sorted(int(i) for i in f.rng.integers(-size, 2 * size, 2))
        if axis in (0, 3):
            begin, end = 0, size
        if stride < 0:
            begin, end = end, begin
        if f.rng.random() < 0.3 or len(range(*slice(begin, end, stride).indices(size))) == 0:
            options.beginMask |= 1 << axis
            options.endMask |= 1 << axis
        slices.append((begin, end, stride))
    shape = tuple(
        len(
            range(
                *slice(
                    None if options.beginMask >> a & 1 else b,
                    None if options.endMask >> a & 1 else e,
                    s,
                ).indices(size)
            )
        )
        for a, (size, (b, e, s)) in enumerate(zip(sizes, slices, strict=True))
    )
    parts = [f.constant(np.array(part, np.int32)) for part in zip(*slices, strict=True)]
    return _still(f, "STRIDED_SLICE", [x, *parts], shape, options)


def cut(f: Any, x: int) -> int:
    n, h, w, c = f.shapes[x]
    top, left = int(f.rng.integers(h)), int(f.rng.integers(w))
    shape = (n, int(f.rng.integers(1, h - top + 1)), w - left, c)
    begin = f.constant(np.array([0, top, left, 0], np.int32))
    size = f.constant(np.array([n, shape[1], -1, -1], np.int32))
    return _still(f, "SLICE", [x, begin, size], shape, schema.SliceOptionsT())


def mirrored(mode: int) -> Callable[[Any, int], int]:
    def make(f: Any, x: int) -> int:
        n, h, w, c = f.shapes[x]
        top, bottom, left, right = (int(f.rng.integers(0, size + mode)) for size in (h, h, w, w))
        options = schema.MirrorPadOptionsT()
        options.mode = mode
        amounts = np.array([[0, 0], [top, bottom], [left, right], [0, 0]], np.int32)
        shape = (n, h + top + bottom, w + left + right, c)
        return _still(f, "MIRROR_PAD", [x, f.constant(amounts)], shape, options)

    return make


MOVES: dict[str, Callable[[Any, int], int]] = {
    "nearest fill": nearest_fill,
    "any gather": any_gather,
    "rows": rows,
    "columns": columns,
    "resize": nearest(False, False),
    "resize, centres": nearest(False, True),
    "resize, corners": nearest(True, False),
    "strided slice": strided_slice,
    "slice": cut,
    "reflect": mirrored(0),
    "symmetric": mirrored(1),
}
