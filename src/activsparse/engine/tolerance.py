"""Error bounds of the convolution algorithms and of whole networks; derived in docs/numerics.md."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from activsparse.engine.report import NodeReport

FloatArray = npt.NDArray[np.float64]

UNIT_ROUNDOFF = 2.0**-24
"""Largest relative error of one float32 operation, rounding to nearest."""

HALF_ROUNDOFF = 2.0**-11
"""The same of float16."""

WEIGHT_ROUNDING = HALF_ROUNDOFF * math.sqrt(0.125 / math.log(2))
"""Root mean square of the relative error of a weight in float16, 2.1e-4: an error uniform in the
last place of a mantissa m in [1, 2), whose logarithm is uniform as well: mean of m^-2 / 3."""

MOST_HALF_TERMS = 64
"""Products that are added in float16 (native/kernels/halves.h); beyond that sums are float32."""

_PART_UNDERFLOW = 2.0**-39  # of a part's largest weight: native/operators/weights.h

TRANSFORM_OPERATIONS = 20
"""Roundings on the longest path through a Winograd convolution besides its sum over channels."""

NETWORK_SAFETY = 8.0
"""Between a random walk of roundings and what two correct engines may differ by."""

# By (tile, stride): the finite points, and how many of them, from the first, serve a short axis.
# Tiles of 5 have 4 taps, and no short axis.
_FINITE_POINTS = {
    (6, 1): (0.0, 0.5, -0.5, 2.0, -2.0, 1.0, -1.0),
    (5, 1): (0.0, 0.5, -0.5, 2.0, -2.0, 1.0, -1.0),
    (4, 1): (0.0, 0.625, -0.625, 1.5, -1.5),
    (2, 1): (0.0, 1.0, -1.0),
    (4, 2): (0.375, -0.375, 1.375, -1.375),
    (2, 2): (0.0, 1.0),
}
_SHORT_POINTS = {(6, 1): 5, (4, 1): 3, (2, 1): 2, (4, 2): 2, (2, 2): 1}


def gamma(operations: int) -> float:
    """Relative error of `operations` roundings in a row (Higham, Accuracy and Stability, 3.1)."""
    return operations * UNIT_ROUNDOFF / (1 - operations * UNIT_ROUNDOFF)


def winograd_matrices(
    tile: int, short: bool = False, stride: int = 1
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The matrices of an axis with 3 taps, 4 with tile 5: y = A^T ((G g) * (B^T d)).

    Args:
        tile: Outputs of a full tile along one axis, 6, 5, 4 or 2.
        short: The axis of 4, 2 or 1 outputs that shares the full one's transformed weights (not
            with tile 5).
        stride: 1 or (with tiles 4 and 2) 2.

    Returns:
        A^T (m, k), G (k, t) and B^T (k, k) for m outputs of k = (m - 1) * stride + t inputs.
    """
    every = np.array(_FINITE_POINTS[tile, stride])
    points = every[: _SHORT_POINTS[tile, stride]] if short else every
    size = len(points) + 1
    outputs = {6: 4, 4: 2, 2: 1}[tile] if short else tile
    a = np.zeros((outputs, size))
    a[:, :-1] = points[None, :] ** np.arange(outputs)[:, None]
    a[-1, -1] = 1
    taps = 4 if tile == 5 else 4 - stride
    g = np.zeros((size, taps))
    b = np.zeros((size, size))
    for i, point in enumerate(points):
        others = np.delete(points, i)
        scale = np.prod(point - np.delete(every, i))
        g[i] = point ** np.arange(taps) / scale
        b[i, :-1] = np.atleast_1d(np.poly(others))[::-1] * scale / np.prod(point - others)
    g[-1, -1] = 1
    b[-1] = np.poly(points)[::-1]
    return (a, g, b) if stride == 1 else _with_odd_inputs(a, g, b)


def _with_odd_inputs(
    a: FloatArray, g: FloatArray, b: FloatArray
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Make an axis of stride 2 from one of stride 1 whose 2 taps are its outer ones.

    The outer taps meet inputs with even index; the middle one meets the others, one product each.
    """
    m, size = a.shape
    wide_g, wide_b = np.zeros((size + m, 3)), np.zeros((size + m, size + m))
    wide_g[:size, ::2], wide_g[size:, 1] = g, 1
    wide_b[:size, ::2], wide_b[size:, 1::2] = b, np.eye(m)
    return np.hstack([a, np.eye(m)]), wide_g, wide_b


def winograd_bound(
    tile: int,
    weight: npt.NDArray[np.float32],
    input_max: npt.NDArray[np.float32],
    stride: int = 1,
    half: bool = False,
) -> FloatArray:
    """Largest possible error of a Winograd convolution before its activation.

    The bound is componentwise in the weights and holds for every position of an image. Bias and
    residual add one rounding each: add `gamma(3) * (|bias| + |residual|)`.

    Args:
        tile: Output tile size, 6, 5, 4 or 2.
        weight: (O, C, 3, 3) float32, with tile 5 (O, C, 4, 4).
        input_max: (C,) float32, the largest absolute input per channel.
        stride: 1 or 2.
        half: The transformed weights are kept in float16.

    Returns:
        (O,) float64: bound of the absolute error per output channel.
    """
    largest = np.zeros(len(weight))
    relative = gamma(weight.shape[1] + TRANSFORM_OPERATIONS)
    if half:
        relative = (1 + relative) * (1 + HALF_ROUNDOFF) * (1 + UNIT_ROUNDOFF) - 1
    kinds = (False, True) if (tile, stride) in _SHORT_POINTS else (False,)
    axes = [winograd_matrices(tile, short, stride) for short in kinds]
    for (ay, gy, by), (ax, gx, bx) in itertools.product(axes, axes):
        u = np.abs(np.einsum("ij,ocjk,lk->ocil", gy, weight.astype(np.float64), gx, optimize=True))
        u = u * relative + _PART_UNDERFLOW * half * u.max(axis=(0, 1))
        v = np.outer(np.abs(by).sum(1), np.abs(bx).sum(1))
        products = np.einsum("ocil,c->oil", u, input_max.astype(np.float64)) * v
        outputs = np.einsum("ij,ojk,lk->oil", np.abs(ay), products, np.abs(ax), optimize=True)
        largest = np.maximum(largest, outputs.max(axis=(1, 2)))
    return largest


def winograd_stem_bound(
    weight: npt.NDArray[np.float32], input_max: npt.NDArray[np.float32], stride: int
) -> FloatArray:
    """`winograd_bound` of `conv/winograd_stem`, which unfolds its strided input first.

    Args:
        weight: (O, C, KH, KW) float32, kernels of 3 or 4 strides.
        input_max: (C,) float32, the largest absolute input per channel.
        stride: At least 2, the same in both directions.

    Returns:
        (O,) float64: bound of the absolute error per output channel.
    """
    out, channels, *kernel = weight.shape
    taps = -(-max(kernel) // stride)
    whole = np.zeros((out, channels, taps * stride, taps * stride), np.float32)
    whole[:, :, : kernel[0], : kernel[1]] = weight
    phases = whole.reshape(out, channels, taps, stride, taps, stride).transpose(0, 1, 3, 5, 2, 4)
    unfolded = phases.reshape(out, channels * stride**2, taps, taps)
    return winograd_bound(9 - taps, unfolded, np.repeat(input_max, stride**2))


def network_bound(
    sums: Iterable[float], reference: npt.NDArray[Any], half_roundings: int = 0
) -> float:
    """Largest absolute difference of two float32 engines on a network that rounding explains.

    Zeros alone, as of a unit that clips all it gets, say nothing of the sums behind them: they are
    judged as if their largest value were 1.

    Args:
        sums: K of every layer: products per output, KH * KW * I / group of a convolution.
        reference: An output of the other engine, any shape.
        half_roundings: How many times in a row the other engine rounds to float16.
    """
    scale = float(np.max(np.abs(reference), initial=0.0)) or 1.0
    single = UNIT_ROUNDOFF * math.sqrt(sum(sums) + 1.0)
    return NETWORK_SAFETY * 2 * (single + HALF_ROUNDOFF * math.sqrt(half_roundings)) * scale


def sums_of(reports: Iterable[NodeReport]) -> list[float]:
    """K of every operator that has one, as of a direct sum that errs as its algorithm does.

    Weights in float16, and arithmetic in it, count as the products whose roundings come to as much.
    """
    return [
        amplification(r.algorithm) * r.dense_macs / math.prod(r.shape)
        + _half_variance(r) / (2 * UNIT_ROUNDOFF) ** 2
        for r in reports
        if r.dense_macs or r.precision == "float16"
    ]


def sum_noise(sums: Sequence[float]) -> float:
    """How far weights must be moved, relative to themselves, to do what roundings of sums do.

    A sum of K products of variance 1, rounded after each, errs by u sqrt(K / 6) sqrt(K): its k-th
    partial sum is of size sqrt(k), rounded by a third of u^2 in variance. Weights that are each off
    by a share s move it by s sqrt(K).

    Args:
        sums: K of every layer, as of `sums_of`; one at least.
    """
    return UNIT_ROUNDOFF * math.sqrt(sum(sums) / len(sums) / 6)


def weight_noise(reports: Iterable[NodeReport]) -> float:
    """Root mean square of what float16 changes in a network, relative to its values."""
    return math.sqrt(sum(map(_half_variance, reports)))


def _half_variance(report: NodeReport) -> float:
    """Of what float16, of weights or of all, changes in an operator's outputs, relative to them.

    In arithmetic the weights and the result are rounded. A sum of n products of variance 1, rounded
    after each, is off by u sqrt(n / 6) sqrt(n) (`sum_noise`); K / n such sums of K products by that
    times sqrt(K / n), which is u sqrt(n / 6) of the whole.
    """
    if report.precision == "float16":
        if not report.dense_macs:
            return WEIGHT_ROUNDING**2
        terms = min(report.dense_macs / math.prod(report.shape), MOST_HALF_TERMS)
        return 2 * WEIGHT_ROUNDING**2 + HALF_ROUNDOFF**2 * terms / 6
    if report.weight_type != "float16":
        return 0.0
    layers = 2 if report.kind == "inverted_residual" else 1
    return layers * weight_amplification(report.algorithm) * WEIGHT_ROUNDING**2


@functools.cache
def amplification(algorithm: str) -> float:
    """How many times the variance of a direct sum's error an algorithm's error has, at least 1.

    Weights and inputs are independent with unit variance, and each element of U . V errs by the
    rounding of its own sum over C channels, whose square grows with C^2 and the variances of U and
    V; a direct sum has T^2 C products for kernels of T x T. Per axis the mean over a tile's m
    outputs of

        sum_i A^T_ki^2 (sum_j G_ij^2) (sum_l B^T_il^2)

    and for both the square of that, over T^4. (The expectation of the bound of Barabasz et al., ACM
    TOMS 46(4), 2020, theorem 4, with roundings that are independent, as in Higham and Mary, SIAM J.
    Sci. Comput. 41(5), 2019.)
    """
    if not algorithm.startswith("winograd"):
        return 1.0
    variance, taps = _products(algorithm)
    return max(1.0, variance / taps**2)


@functools.cache
def weight_amplification(algorithm: str) -> float:
    """How many times the variance of a direct sum's error that of an algorithm is, by its weights.

    Each product errs by the rounding of its weight, independently: the C products of an element of
    U . V by C times the variances of U and V, a direct sum by T^2 C. Otherwise as `amplification`.
    """
    if not algorithm.startswith("winograd"):
        return 1.0
    variance, taps = _products(algorithm)
    return variance / taps


def _products(algorithm: str) -> tuple[float, int]:
    """Variance of one channel's products in an output, of Winograd's algorithms, and taps T^2."""
    tile = 6 if algorithm == "winograd_stem" else int(algorithm[len("winograd")])
    a, g, b = winograd_matrices(tile, stride=2 if algorithm.endswith("_s2") else 1)
    axis = np.mean(a**2 @ ((g**2).sum(1) * (b**2).sum(1)))
    return float(axis**2), g.shape[1] ** 2
