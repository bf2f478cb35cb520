"""Products whose weights are kept in float16, against double precision with rounded weights."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers import ConvCase, FloatArray, Tensor, random_conv
from test_inverted_residual import Case as Strips
from test_inverted_residual import check as check_strips
from test_inverted_residual import random_case
from test_winograd import TILES, Conv, masks_of

from activsparse import ActivsparseError, _native
from activsparse.engine.tolerance import (
    WEIGHT_ROUNDING,
    gamma,
    weight_amplification,
    winograd_bound,
)

ISAS = _native.available_isas()
KINDS = {
    "direct": ("any", "pointwise", "grouped"),
    "active_taps": ("any", "grouped"),
    "pointwise": ("pointwise",),
}


def rounded(weight: FloatArray) -> FloatArray:
    """Weights with the 11 digits of float16, but for its range, which scales take care of."""
    mantissa, exponent = np.frexp(weight)
    return np.ldexp(np.round(mantissa * 2**11) / 2**11, exponent).astype(np.float32)


def in_half(case: ConvCase) -> ConvCase:
    return replace(case, activation={**case.activation, "weights": "float16"})


def check(case: ConvCase, algorithm: str, isa: str, seed: int) -> None:
    exact = replace(case, weight=rounded(case.weight), nchw=False)
    expected = exact.run("reference", isa)
    half = in_half(case)
    actual = half.run(algorithm, isa)
    excess = float((np.abs(actual - expected) / exact.tolerance()).max(initial=0))
    assert excess <= 1, f"{algorithm} on {isa}: {excess}, seed {seed}: {case.describe()}"
    packed = _native.pack(half.spec()[0], algorithm, isa)
    assert packed.half_weights
    assert not _native.pack(case.spec()[0], algorithm, isa).half_weights


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("algorithm", "kind"), [(a, kind) for a, kinds in KINDS.items() for kind in kinds]
)
def test_random_products(algorithm: str, kind: str, isa: str) -> None:
    for seed in range(40):
        case = random_conv(np.random.default_rng(1000 + seed), kind)
        if case.supported(algorithm, isa):
            check(case, algorithm, isa, seed)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("depth", "outputs", "rows"), [(20000, 70, 1), (9000, 33, 60)])
def test_sums_too_long_for_the_cache_go_by_parts_and_may_replace_the_residual(
    isa: str, depth: int, outputs: int, rows: int
) -> None:
    rng = np.random.default_rng(depth)
    case = ConvCase(
        rng.standard_normal((1, depth, 1, rows)).astype(np.float32),
        rng.standard_normal((outputs, depth, 1, 1)).astype(np.float32),
        bias=rng.standard_normal(outputs).astype(np.float32),
        residual=rng.standard_normal((1, outputs, 1, rows)).astype(np.float32),
        activation={"activation": "relu"},
    )
    check(case, "pointwise", isa, depth)
    spec, inputs, output = in_half(case).spec()
    packed = _native.pack(spec, "pointwise", isa)
    apart = in_half(case).run("pointwise", isa)
    x, residual = (t.argument() if isinstance(t, Tensor) else t for t in inputs)
    place = residual.copy()
    _native.run_operator(packed, [x, place], [place])
    assert np.array_equal(replace_buffer(output, place).values(), apart)


def replace_buffer(tensor: Tensor, buffer: FloatArray) -> Tensor:
    return Tensor(tensor.desc, buffer, tensor.layout)


@pytest.mark.parametrize("isa", ISAS)
def test_weights_are_the_nearest_float16_numbers_and_those_in_float16_stay(isa: str) -> None:
    """One channel shows them; a second one, that is not seen, sets each panel's scale to 1."""
    every = np.arange(2**16, dtype=np.uint16).view(np.float16).astype(np.float32)
    rng = np.random.default_rng(3)
    drawn = (rng.standard_normal(4096) * 10.0 ** rng.uniform(-9, 4.5, 4096)).astype(np.float32)
    drawn = drawn[np.abs(drawn) < 65504]  # what is larger, panels are scaled down for
    halves = [65519.996, 2.0**-25, 1.5 * 2.0**-24, 2049.0, 2051.0]
    values = np.concatenate([every, drawn, np.float32(halves)])
    weight = np.stack([np.full(values.size, 40000, np.float32), values], 1)[..., None, None]
    x = np.zeros((1, 2, 1, 1), np.float32)
    x[0, 1] = 1
    y = in_half(ConvCase(x, np.ascontiguousarray(weight))).run("pointwise", isa)[0, :, 0, 0]
    expected = values.astype(np.float16).astype(np.float32)
    assert np.array_equal(y, expected, equal_nan=True)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("scale", [1e-38, 1e-20, 1e-6, 1e6, 1e30])
def test_a_panels_scale_takes_any_range(scale: float, isa: str) -> None:
    rng = np.random.default_rng(11)
    weight = (rng.standard_normal((48, 40, 1, 1)) * scale).astype(np.float32)
    case = ConvCase(rng.standard_normal((1, 40, 3, 5)).astype(np.float32), weight)
    exact = replace(case, weight=rounded(weight)).run("reference", isa)
    actual = in_half(case).run("pointwise", isa)
    bound = gamma(42) * 40 * 5 * np.abs(weight).max() + 40 * 2.0**-148
    assert np.abs(actual.astype(np.float64) - exact).max() <= bound, (scale, isa)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("seed", range(6))
def test_random_winograd_convolutions_hold_their_bound(seed: int, stride: int, isa: str) -> None:
    rng = np.random.default_rng(2000 + seed)
    n, c, o = int(rng.integers(1, 4)), int(rng.integers(1, 131)), int(rng.integers(1, 131))
    h, w = (int(size) for size in rng.integers(3, 30, 2))
    shape = ((h - 1) // stride + 1, (w - 1) // stride + 1)
    masks = masks_of(shape, rng)
    case = Conv(
        rng,
        *(n, h, w, c, o),
        stride=stride,
        mask=masks[str(rng.choice(list(masks)))],
        padded=bool(rng.integers(2)),
        scale=[0.0, 3.0][seed % 2],
    )
    expected = case.run("reference", "scalar")
    for algorithm, tile in TILES[stride].items():
        if tile == 6:
            continue
        actual = case.run(algorithm, isa, weights="float16").astype(np.float64)
        largest = np.abs(case.x[..., :c]).max(axis=(0, 1, 2), initial=0)
        bound = winograd_bound(tile, case.arrays["weight"], largest, stride, half=True)
        bound = bound + gamma(3) * np.abs(case.arrays["bias"]) + gamma(3) * np.abs(expected) + 1e-30
        worst = (np.abs(actual - expected) / bound).max(initial=0)
        assert worst <= 1, (worst, algorithm, isa, seed, case.describe())


@pytest.mark.parametrize(("stride", "algorithm"), [(s, a) for s in TILES for a in TILES[s]])
def test_winograds_mean_error_is_the_derived_one(stride: int, algorithm: str) -> None:
    """Of normal weights and inputs, within a tenth: 6x6 tiles are 21 times a direct sum's."""
    if TILES[stride][algorithm] == 6:
        assert 20 < np.sqrt(weight_amplification(algorithm)) < 21
        return
    assert weight_amplification("direct") == 1
    case = Conv(np.random.default_rng(5), 1, 32, 32, 128, 64, stride=stride)
    expected = case.run("reference", "scalar").astype(np.float64)
    error = case.run(algorithm, ISAS[-1], weights="float16") - expected
    inner = (slice(None), slice(2, -2), slice(2, -2))
    measured = error[inner].std() / (expected[inner] - case.arrays["bias"]).std()
    derived = WEIGHT_ROUNDING * np.sqrt(weight_amplification(algorithm))
    assert 0.9 < measured / derived < 1.1, (measured, derived)


def test_tiles_of_six_are_refused() -> None:
    case = Conv(np.random.default_rng(5), 1, 14, 14, 16, 16)
    assert dict(case.spec().algorithms(ISAS[-1]))["winograd6"] == ""
    assert "float16" in dict(case.spec("float16").algorithms(ISAS[-1]))["winograd6"]


@pytest.mark.parametrize("stem", [False, True])
@pytest.mark.parametrize("seed", range(25))
def test_random_inverted_residuals(seed: int, stem: bool) -> None:
    """Their 1x1 convolutions; depthwise and first ones stay as they are."""
    case = random_case(np.random.default_rng(3000 + seed), stem=stem)
    stages = {}
    for name, stage in case.stages.items():
        half = name == "project" or (name == "expand" and not stem)
        stages[name] = replace(stage, weight=rounded(stage.weight)) if half else stage
    expected = Strips(stages).one_by_one()
    for isa in ISAS:
        check_strips(replace(case, weights="float16"), isa, seed, expected)


def test_an_unknown_type_is_refused() -> None:
    case = random_conv(np.random.default_rng(0), "pointwise")
    case.activation = {"weights": "bfloat16"}
    with pytest.raises(ActivsparseError, match="'bfloat16' are not known"):
        case.run("pointwise", ISAS[-1])
