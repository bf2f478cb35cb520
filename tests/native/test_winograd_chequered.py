"""Winograd tiles on a chequerboard against the double-precision reference, and their work."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from test_winograd import ISAS, Conv

from activsparse import _native

ALGORITHMS = ("winograd6_chequered", "winograd4_chequered")


def chequerboard(h: int, w: int, colour: int) -> np.ndarray:
    """Positions with y + x + colour even."""
    y, x = np.ogrid[:h, :w]
    return (y + x + colour) % 2 == 0


def chequered_conv(
    rng: np.random.Generator,
    size: tuple[int, int, int, int, int],
    pads: tuple[int, int, int, int] = (1, 1, 1, 1),
    colour: int = 0,
    kept: float = 1.0,
    **options: Any,
) -> Conv:
    """A convolution whose input and output lie on one chequerboard; of size (n, h, w, c, o).

    `kept` is the share of the board's positions that both masks keep.
    """
    n, h, w, c, o = size
    live = chequerboard(h, w, colour + pads[0] + pads[1])
    mask = chequerboard(h + pads[0] + pads[2] - 2, w + pads[1] + pads[3] - 2, colour)
    live &= rng.random(live.shape) < kept
    mask &= rng.random(mask.shape) < kept
    conv = Conv(rng, n, h, w, c, o, pads, mask=mask, **options)
    conv.arrays["input_mask"] = live.astype(np.uint8)
    conv.x[..., :c] *= live[None, :, :, None]
    return conv


def check(conv: Conv, seed: int = 0) -> None:
    expected = conv.run("reference", "scalar")
    for isa in ISAS:
        for algorithm in ALGORITHMS:
            error = np.abs(conv.run(algorithm, isa).astype(np.float64) - expected)
            worst = (error / conv.tolerance(algorithm, expected)).max(initial=0)
            assert worst <= 1, (worst, seed, isa, algorithm, conv.describe())


@pytest.mark.parametrize("seed", range(24))
def test_random_convolutions(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, c, o = int(rng.integers(1, 4)), int(rng.integers(1, 131)), int(rng.integers(1, 131))
    pads = tuple(int(p) for p in rng.integers(0, 3, 4))
    h = int(rng.integers(max(1, 3 - pads[0] - pads[2]), 34))
    w = int(rng.integers(max(1, 3 - pads[1] - pads[3]), 34))
    c = max(1, min(c, 2_000_000 // (n * h * w * o)))  # the reference is slow
    conv = chequered_conv(
        rng,
        (n, h, w, c, o),
        pads,  # type: ignore[arg-type]
        colour=seed % 2,
        kept=float(rng.choice([1.0, 0.7, 0.0])),
        activation=("none", "relu", "hardswish", "silu")[seed // 2 % 4],
        residual=bool(rng.integers(2)),
        padded=bool(rng.integers(2)),
    )
    check(conv, seed)


@pytest.mark.parametrize("colour", [0, 1])
@pytest.mark.parametrize(("h", "c", "o"), [(56, 8, 24), (28, 200, 16), (14, 70, 300), (7, 33, 65)])
def test_blocks_of_tiles_and_channels(h: int, c: int, o: int, colour: int) -> None:
    rng = np.random.default_rng(h)
    check(chequered_conv(rng, (2, h, h, c, o), colour=colour, residual=True, activation="relu"))


@pytest.mark.parametrize("colour", [0, 1])
def test_nearest_fill(colour: int) -> None:
    rng = np.random.default_rng(colour)
    check(chequered_conv(rng, (2, 9, 14, 7, 20), colour=colour, source=True, activation="relu"))


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_badly_scaled_data_stays_within_the_bound(scale: float) -> None:
    rng = np.random.default_rng(7)
    for colour, c in enumerate((1, 16, 100)):
        check(chequered_conv(rng, (1, 11, 14, c, 19), colour=colour % 2, scale=scale))


@pytest.mark.parametrize("size", [(56, 56), (28, 28), (14, 14), (7, 7), (13, 22), (1, 1)])
def test_half_the_products_and_weights_do(size: tuple[int, int]) -> None:
    """Of whatever colour, on even and odd maps."""
    for colour in (0, 1):
        h, w = size
        conv = chequered_conv(np.random.default_rng(0), (1, h, w, 16, 16), colour=colour)
        dense = Conv(np.random.default_rng(0), 1, h, w, 16, 16)
        for algorithm in ALGORITHMS:
            half = _native.pack(conv.spec(), algorithm, ISAS[-1])
            whole = _native.pack(dense.spec(), algorithm.removesuffix("_chequered"), ISAS[-1])
            if conv.arrays["mask"].any():
                assert half.macs == whole.macs / 2
            assert half.nbytes - half.index_bytes < 0.55 * (whole.nbytes - whole.index_bytes)


def test_other_masks_are_refused() -> None:
    rng = np.random.default_rng(0)
    for name, flip in (("mask", True), ("input_mask", True), ("input_mask", False)):
        conv = chequered_conv(rng, (1, 8, 8, 3, 5))
        if flip:
            conv.arrays[name] = 1 - conv.arrays[name]
        else:
            del conv.arrays[name]
        reasons = dict(conv.spec().algorithms("scalar"))
        for algorithm in ALGORITHMS:
            assert "chequerboard" in reasons[algorithm]
