"""Resize and Upsample of the image plane: nearest neighbour, linear and cubic."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from activsparse.engine.graph import Array, Node
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.source import Source

__all__ = ["resize"]

_Float = npt.NDArray[np.float32]

# Coordinates this near to half way between two pixels are there, but for the rounding of the scale.
_TIE = 1e-6

# nearest_mode -> input coordinate, of those ONNX's documentation of Resize names.
_ROUNDING: dict[str, Callable[[_Float], Array]] = {
    "round_prefer_floor": lambda x: np.ceil(x.astype(np.float64) - 0.5 - _TIE),
    "round_prefer_ceil": lambda x: np.floor(x.astype(np.float64) + 0.5 + _TIE),
    "floor": np.floor,
    "ceil": np.ceil,
}


def resize(source: Source) -> list[Node]:
    """Resize or Upsample of the image plane."""
    shape, out = source.image_shape(), source.output_shape
    mode = source.attribute("mode", "nearest")
    if mode not in ("nearest", "linear", "cubic"):
        source.fail(f"mode '{mode}'", "only nearest, linear and cubic are supported")
    scales = _scales(source)
    if out[:2] != shape[:2] or scales[0] != 1 or scales[1] != 1:
        source.fail(f"it resizes {shape} to {out}", "only height and width can be resized")
    if mode != "nearest" and source.attribute("antialias", 0):
        return _by_matrices(source, scales, _stretched_matrix)
    if mode == "linear":
        return [_linear(source, scales)]
    if mode == "cubic":
        return _by_matrices(source, scales, _cubic_matrix)
    taken = [_taken(source, scales[axis], shape[axis], out[axis]) for axis in (2, 3)]
    factors = [size // before for size, before in zip(out[2:], shape[2:], strict=True)]
    whole = all(
        np.array_equal(rows, np.arange(len(rows)) // factor) if factor else False
        for rows, factor in zip(taken, factors, strict=True)
    )
    if whole:
        scale = {"scale_h": factors[0], "scale_w": factors[1]}
        return [source.engine_node("resize_nearest", scale)]
    positions = (taken[0][:, None] * shape[3] + taken[1]).reshape(-1)
    arrays = {"source": np.ascontiguousarray(positions, np.int32)}
    return [source.engine_node("resize_positions", arrays=arrays)]


def _linear(source: Source, scales: list[float]) -> Node:
    """Every output position is a weighted sum of the four input positions around it."""
    arrays: dict[str, Array] = {}
    for axis, name in ((2, "rows"), (3, "columns")):
        size, out = source.shape()[axis], source.output_shape[axis]
        x = np.clip(_coordinates(source, scales[axis], size, out), 0, size - 1, dtype=np.float32)
        first = np.floor(x).astype(np.int32)
        second = np.minimum(first + 1, size - 1)
        share = x - first.astype(np.float32)
        # At the last pixel both halves come from it, so that an infinity there stays one.
        share = np.where(first == second, np.float32(0.5), share)
        arrays[name] = np.stack([first, second])
        arrays[f"{name}_weights"] = np.stack([np.float32(1) - share, share]).astype(np.float32)
    return source.engine_node("resize_linear", arrays=arrays)


def _by_matrices(
    source: Source, scales: list[float], matrix_of: Callable[[Source, float, int, int], Array]
) -> list[Node]:
    """Along each axis a product with a constant matrix, of its scale and both sizes."""
    chain, x = Chain(source), source.activation()
    shape, out = source.shape(), source.output_shape
    for axis in (3, 2):
        matrix = matrix_of(source, scales[axis], shape[axis], out[axis])
        if shape[axis] == out[axis] and np.array_equal(matrix, np.eye(out[axis])):
            continue
        if axis == 3:
            columns = chain.constant(np.ascontiguousarray(matrix.T), matrix.T.shape)
            x = chain.add("matmul", x, columns, shape=(*chain.shape(x)[:3], out[3]))
        else:
            rows = chain.constant(matrix, matrix.shape)
            x = chain.add("matmul", rows, x, shape=out)
    return chain.done(x)


def _cubic_matrix(source: Source, scale: float, size: int, out: int) -> Array:
    """What every input counts for every output of an axis: float32 (out, size).

    Keys, "Cubic convolution interpolation for digital image processing", 1981, with the factor a
    as an attribute; positions beyond the border are those at it, or left out.
    """
    a = float(source.attribute("cubic_coeff_a", -0.75))
    x = _coordinates(source, scale, size, out)
    first = np.floor(x).astype(np.int64)
    matrix = np.zeros((out, size))
    for tap in range(-1, 3):
        at = first + tap
        share = _keys(np.abs(x.astype(np.float64) - at), a)
        if source.attribute("exclude_outside", 0):
            share = np.where((at >= 0) & (at < size), share, 0.0)
        np.add.at(matrix, (np.arange(out), np.clip(at, 0, size - 1)), share)
    if source.attribute("exclude_outside", 0):
        matrix /= matrix.sum(1, keepdims=True)
    return matrix.astype(np.float32)


def _stretched_matrix(source: Source, scale: float, size: int, out: int) -> Array:
    """What every input counts where an axis is made shorter by a kernel as much wider.

    As ONNX describes `antialias`: float32 (out, size); positions beyond the border are those at
    it, or left out.
    """
    x = _coordinates(source, scale, size, out).astype(np.float64)
    narrow = min(scale, 1.0)
    cubic = source.attribute("mode", "nearest") == "cubic"
    reach = (2 if cubic else 1) / narrow
    first = np.floor(x - reach + 1).astype(np.int64)
    matrix = np.zeros((out, size))
    for tap in range(int(np.ceil(2 * reach)) + 1):
        at = first + tap
        distance = np.abs(at - x) * narrow
        if cubic:
            share = _keys(distance, float(source.attribute("cubic_coeff_a", -0.75)))
        else:
            share = np.maximum(1 - distance, 0)
        if source.attribute("exclude_outside", 0):
            share = np.where((at >= 0) & (at < size), share, 0.0)
        np.add.at(matrix, (np.arange(out), np.clip(at, 0, size - 1)), share)
    matrix /= matrix.sum(1, keepdims=True)
    return matrix.astype(np.float32)


def _keys(distance: Array, a: float) -> Array:
    """Keys' kernel at distances that are not negative."""
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))


def _scales(source: Source) -> list[float]:
    """The scale of each axis: as given, which need not be the ratio of the sizes."""
    shape, out = source.shape(), source.output_shape
    given = source.attribute("scales")  # of Upsample-7
    index = 1 if _is_old(source) else 2
    if given is None and source.has(index):
        given = source.constant(index, "scales")
    axes = [int(axis) % 4 for axis in source.attribute("axes", range(4))]
    scales = [1.0] * 4
    if given is not None and np.size(given):
        for axis, scale in zip(axes, np.asarray(given).reshape(-1), strict=True):
            scales[axis] = float(scale)
        return scales
    ratios = [out[axis] / shape[axis] for axis in range(4)]
    policy = source.attribute("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch":  # one scale for all axes, of which the sizes are rounded
        wanted = source.constant(3, "sizes").reshape(-1)
        by_axis = [int(size) / shape[axis] for axis, size in zip(axes, wanted, strict=True)]
        one = min(by_axis) if policy == "not_larger" else max(by_axis)
        ratios = [one if axis in axes else 1.0 for axis in range(4)]
    return ratios


def _is_old(source: Source) -> bool:
    """Whether the operator is of the time before coordinates and rounding were options."""
    return source.node.op == "Upsample" or source.graph.opset < 11


def _taken(source: Source, scale: float, size: int, out: int) -> Array:
    """The input coordinate every output coordinate of an axis takes: int64 (out,)."""
    x = _coordinates(source, scale, size, out)
    if _is_old(source) and not (scale == 1.0 and out == size):
        return _inside(np.ceil(x) if scale < 1 else np.floor(x), size)
    rounding = source.attribute("nearest_mode", "round_prefer_floor")
    if rounding not in _ROUNDING:
        source.fail(f"nearest_mode '{rounding}'", f"use one of {', '.join(_ROUNDING)}")
    return _inside(_ROUNDING[rounding](x), size)


def _coordinates(source: Source, scale: float, size: int, out: int) -> _Float:
    """Where in the input every output coordinate of an axis lies: float32 (out,).

    In float32, as ONNX Runtime computes it; the formulas are those of ONNX's documentation.
    """
    y = np.arange(out, dtype=np.float32)
    one, half, factor = np.float32(1), np.float32(0.5), np.float32(scale)
    if scale == 1.0 and out == size:
        return y
    x: _Float
    if _is_old(source):
        x = y / factor
        return x
    transform = source.attribute("coordinate_transformation_mode", "half_pixel")
    if transform == "asymmetric":
        x = y / factor
    elif transform == "half_pixel" or (transform == "pytorch_half_pixel" and out > 1):
        x = (y + half) / factor - half
    elif transform == "pytorch_half_pixel":
        x = y * 0
    elif transform == "half_pixel_symmetric":
        cut = np.float32(out) / (factor * np.float32(size))
        x = np.float32(size) / 2 * (one - cut) + (y + half) / factor - half
    elif transform == "tf_half_pixel_for_nn":
        x = (y + half) / factor
    elif transform == "align_corners":
        x = y * np.float32(size - 1) / np.float32(out - 1) if out > 1 else y * 0
    else:
        source.fail(f"coordinate_transformation_mode '{transform}'", "use half_pixel or asymmetric")
    return np.asarray(x, np.float32)


def _inside(x: Array, size: int) -> Array:
    return np.clip(x, 0, size - 1).astype(np.int64)
