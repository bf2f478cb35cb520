"""conv/winograd_stem against the double-precision reference, on every instruction set here."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import (
    ACTIVATIONS,
    MASKS,
    ConvCase,
    FloatArray,
    draw_epilogue,
    make_mask,
    random_layout,
)

from activsparse import _native
from activsparse.engine.tolerance import gamma, winograd_matrices, winograd_stem_bound

ISAS = _native.available_isas()
ALGORITHM = "winograd_stem"


def random_stem(rng: np.random.Generator, outputs: int | None = None) -> ConvCase:
    """A convolution it takes, of any other shape, mask, activation and layout."""
    stride = int(rng.choice([2, 2, 3, 4]))
    longest = int(rng.integers(2 * stride + 1, 4 * stride + 1))
    kernel = [longest, int(rng.integers(1, longest + 1)) if rng.random() < 0.3 else longest]
    rng.shuffle(kernel)
    pads = [int(rng.integers(0, k)) for k in (*kernel, *kernel)]
    if rng.random() < 0.1:
        pads[int(rng.integers(4))] += 2 * longest  # positions that see padding alone
    size = [
        max(1, k - pads[i] - pads[i + 2]) + int(rng.integers(0, 40)) for i, k in enumerate(kernel)
    ]
    n, c = int(rng.choice([1, 1, 2, 3])), int(rng.integers(1, 5))
    o = outputs or int(rng.integers(1, rng.choice([20, 80, 131])))
    case = ConvCase(
        rng.standard_normal((n, c, *size)).astype(np.float32),
        rng.standard_normal((o, c, *kernel)).astype(np.float32),
        stride=(stride, stride),
        pads=tuple(pads),  # type: ignore[arg-type]
        activation=ACTIVATIONS[int(rng.integers(len(ACTIVATIONS)))],
        layouts=(random_layout(rng), random_layout(rng), random_layout(rng)),
        nchw=True,
    )
    draw_epilogue(case, rng)
    return case


def check(case: ConvCase, seed: int) -> None:
    expected = replace(case, nchw=False).run("reference", "scalar")
    largest = np.abs(case.x).max(axis=(0, 2, 3))
    bound = winograd_stem_bound(case.weight, largest, case.stride[0])[:, None, None]
    added: FloatArray | float = 0.0 if case.residual is None else np.abs(case.residual)
    if case.bias is not None:
        added = added + np.abs(case.bias)[:, None, None]
    # No activation here has a slope above 1.1; vectorised exponentials lose a few units.
    tolerance = 1.1 * (bound + gamma(3) * added) + gamma(16) * np.abs(expected) + 1e-30
    for isa in ISAS:
        worst = (np.abs(case.run(ALGORITHM, isa) - expected) / tolerance).max(initial=0)
        assert worst <= 1, (worst, isa, seed, case.describe())


@pytest.mark.parametrize("seed", range(60))
def test_random_convolutions(seed: int) -> None:
    check(random_stem(np.random.default_rng(seed)), seed)


@pytest.mark.parametrize("kernel", [5, 6, 7, 8])
@pytest.mark.parametrize("mask", MASKS)
def test_masks(mask: str, kernel: int) -> None:
    rng = np.random.default_rng(kernel)
    case = ConvCase(
        rng.standard_normal((2, 3, 45, 38)).astype(np.float32),
        rng.standard_normal((40, 3, kernel, kernel)).astype(np.float32),
        stride=(2, 2),
        pads=(kernel // 2,) * 4,
        nchw=True,
    )
    case.mask = make_mask(mask, case.output_shape[2:], rng)
    check(case, kernel)


def test_every_number_of_output_channels() -> None:
    rng = np.random.default_rng(1)
    for outputs in range(1, 131):
        check(random_stem(rng, outputs), outputs)


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_badly_scaled_data_stays_within_the_bound(scale: float) -> None:
    for seed in range(10):
        rng = np.random.default_rng(seed)
        case = random_stem(rng)
        case.x *= (10 ** rng.uniform(-scale, scale, case.x.shape)).astype(np.float32)
        case.weight *= (10 ** rng.uniform(-scale, scale, case.weight.shape)).astype(np.float32)
        check(case, seed)


def test_nothing_kept() -> None:
    case = random_stem(np.random.default_rng(0))
    case.source = None
    case.mask = np.zeros(case.output_shape[2:], bool)
    check(case, 0)


def test_tiles_without_kept_positions_are_left_out() -> None:
    """A mask of every second run of 5 rows and columns costs a quarter of the map."""
    runs = np.arange(100) // 5 % 2 == 0
    rng = np.random.default_rng(0)
    case = ConvCase(
        rng.standard_normal((1, 3, 200, 200)).astype(np.float32),
        rng.standard_normal((16, 3, 7, 7)).astype(np.float32),
        stride=(2, 2),
        pads=(3, 3, 3, 3),
        nchw=True,
    )

    def macs(mask: np.ndarray | None) -> float:
        spec, _, _ = replace(case, mask=mask).spec()
        return float(_native.pack(spec, ALGORITHM, ISAS[-1]).macs)

    assert macs(None) == 20**2 * 64 * 12 * 16
    assert macs(np.outer(runs, runs)) == macs(None) / 4
    assert macs(np.outer(np.roll(runs, 3), np.roll(runs, 1))) == macs(None) / 4


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stride": (1, 1)}, "the stride is not 2 to 4"),
        ({"stride": (2, 3)}, "the strides differ"),
        ({"stride": (3, 3)}, "the kernel is not 3 or 4 strides long"),
        ({"dilation": (2, 2)}, "dilation or groups"),
        ({"nchw": False}, "the input is not NCHW"),
    ],
)
def test_what_it_does_not_take(change: dict[str, object], reason: str) -> None:
    rng = np.random.default_rng(0)
    case = ConvCase(
        rng.standard_normal((1, 3, 32, 32)).astype(np.float32),
        rng.standard_normal((8, 3, 6, 6)).astype(np.float32),
        stride=(2, 2),
        nchw=True,
    )
    spec, _, _ = replace(case, **change).spec()  # type: ignore[arg-type]
    assert dict(spec.algorithms(ISAS[-1]))[ALGORITHM] == reason


def test_matrices_compute_a_correlation() -> None:
    rng = np.random.default_rng(5)
    a, g, b = winograd_matrices(5)
    d, k = rng.standard_normal(8), rng.standard_normal(4)
    expected = [d[i : i + 4] @ k for i in range(5)]
    np.testing.assert_allclose(a @ ((g @ k) * (b @ d)), expected, atol=1e-12)
