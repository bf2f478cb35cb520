"""Every convolution algorithm on every instruction set here against the naive reference."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import (
    EPSILON,
    MASKS,
    ConvCase,
    FloatArray,
    Layout,
    Tensor,
    make_mask,
    random_conv,
)

from activsparse import ActivsparseError, _native

ISAS = _native.available_isas()
# algorithm: the kinds of random convolution that exercise it
ALGORITHMS = {
    "direct": ("any", "pointwise", "depthwise", "grouped", "small_groups"),
    "active_taps": ("any", "depthwise", "grouped"),
    "pointwise": ("pointwise",),
    "grouped": ("small_groups",),
    "depthwise": ("depthwise",),
    "depthwise_block": ("depthwise",),
    "stem": ("stem",),
}


def check(case: ConvCase, algorithm: str, isa: str, seed: int) -> None:
    # The reference reads NHWC only.
    expected = replace(case, nchw=False).run("reference", isa)
    actual = case.run(algorithm, isa)
    excess = float((np.abs(actual - expected) / case.tolerance()).max(initial=0))
    assert excess <= 1, (
        f"conv/{algorithm} on {isa}: {excess} times the tolerance, seed {seed}: {case.describe()}"
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("algorithm", "kind"), [(a, kind) for a, kinds in ALGORITHMS.items() for kind in kinds]
)
def test_random_convolutions(algorithm: str, kind: str, isa: str) -> None:
    for seed in range(60):
        case = random_conv(np.random.default_rng(seed), kind)
        if case.supported(algorithm, isa):
            check(case, algorithm, isa, seed)
        else:
            assert kind != algorithm, f"{algorithm} refuses seed {seed}: {case.describe()}"


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", ["any", "pointwise", "depthwise"])
def test_every_channel_count(kind: str, isa: str) -> None:
    rng = np.random.default_rng(7)
    algorithm = {"any": "direct"}.get(kind, kind)
    for channels in range(1, 131):
        c, group = (channels, channels) if kind == "depthwise" else (5, 1)
        kernel = 1 if kind == "pointwise" else 3
        for x_channels, outputs in {(c, channels), (channels, c)}:
            case = ConvCase(
                rng.standard_normal((1, x_channels, 5, 7)).astype(np.float32),
                rng.standard_normal((outputs, x_channels // group, kernel, kernel)).astype(
                    np.float32
                ),
                bias=rng.standard_normal(outputs).astype(np.float32),
                pads=(kernel // 2,) * 4,
                group=group,
                layouts=(Layout(),) * 3 if channels % 2 else (Layout(padded=False),) * 3,
            )
            check(case, algorithm, isa, channels)


@pytest.mark.parametrize("isa", ISAS)
def test_every_number_of_small_groups(isa: str) -> None:
    lanes = {"avx512": 16, "avx2": 8, "neon": 4, "scalar": 1}[isa]
    rng = np.random.default_rng(19)
    for per_group in (2, 4, 8, 16):
        for groups in (*range(2, 20), 32):
            channels = per_group * groups
            case = ConvCase(
                rng.standard_normal((1, channels, 7, 9)).astype(np.float32),
                rng.standard_normal((channels, per_group, 3, 3)).astype(np.float32),
                bias=rng.standard_normal(channels).astype(np.float32),
                stride=(1 + groups % 2,) * 2,
                pads=(1, 1, 1, 1),
                group=groups,
                mask=make_mask("random", (4, 5) if groups % 2 else (7, 9), rng),
                layouts=(Layout(),) * 3 if groups % 3 else (Layout(padded=False),) * 3,
            )
            assert case.supported("grouped", isa) == (per_group <= min(lanes, 8))
            if case.supported("grouped", isa):
                check(case, "grouped", isa, 19)


@pytest.mark.parametrize("activation", ["none", "relu", "silu"])
@pytest.mark.parametrize("isa", ISAS)
def test_every_row_count_is_cut_into_tiles(isa: str, activation: str) -> None:
    rng = np.random.default_rng(13)
    for rows in [*range(1, 50), 97, 113]:
        outputs, depth = int(rng.integers(1, 131)), int(rng.choice([3, 17, 200]))
        case = ConvCase(
            rng.standard_normal((1, depth, 1, rows)).astype(np.float32),
            rng.standard_normal((outputs, depth, 1, 1)).astype(np.float32),
            bias=rng.standard_normal(outputs).astype(np.float32),
            residual=rng.standard_normal((1, outputs, 1, rows)).astype(np.float32)
            if rows % 2
            else None,
            activation={"activation": activation},
        )
        check(case, "pointwise", isa, 13)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kernel", [(7, 7), (1, 11), (9, 3), (2, 2), (31, 5)])
def test_depthwise_blocks_of_any_kernel(kernel: tuple[int, int], isa: str) -> None:
    for seed in range(16):
        rng = np.random.default_rng(seed)
        channels, stride = int(rng.integers(1, 70)), tuple(map(int, rng.integers(1, 3, 2)))
        h, w = (k + int(n) for k, n in zip(kernel, rng.integers(0, 40, 2), strict=True))
        case = ConvCase(
            rng.standard_normal((1 + seed % 2, channels, h, w)).astype(np.float32),
            rng.standard_normal((channels, 1, *kernel)).astype(np.float32),
            bias=rng.standard_normal(channels).astype(np.float32),
            stride=stride,  # type: ignore[arg-type]
            pads=(kernel[0] // 2, kernel[1] // 2, 0, kernel[1] // 2),
            group=channels,
            layouts=(Layout(),) * 3 if seed % 3 else (Layout(padded=False),) * 3,
            threads=1 + seed % 5,
        )
        if seed % 2:
            case.mask = make_mask(str(rng.choice(MASKS[1:])), case.output_shape[2:], rng)
            case.skipped_value = rng.standard_normal(channels).astype(np.float32)
            case.residual = rng.standard_normal(case.output_shape).astype(np.float32)
        check(case, "depthwise_block", isa, seed)


@pytest.mark.parametrize(
    ("isa", "stride"), [("avx512", 1), ("avx2", 1), ("avx2", 2), ("neon", 1), ("neon", 2)]
)
def test_depthwise_blocks_of_3x3_skip(isa: str, stride: int) -> None:
    rng = np.random.default_rng(stride)
    case = ConvCase(
        rng.standard_normal((1, 24, 20, 20)).astype(np.float32),
        rng.standard_normal((24, 1, 3, 3)).astype(np.float32),
        stride=(stride, stride),
        pads=(1, 1, 1, 1),
        group=24,
    )
    case.mask = make_mask("lattice", case.output_shape[2:], rng)
    packed = _native.pack(case.spec()[0], "depthwise_block", isa)
    assert 0 < np.count_nonzero(case.mask) < case.mask.size
    assert packed.macs == np.count_nonzero(case.mask) * 9 * 24


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("algorithm", ["direct", "pointwise", "depthwise", "grouped"])
def test_masks(algorithm: str, kind: str) -> None:
    rng = np.random.default_rng(3)
    group = {"depthwise": 40, "grouped": 10}.get(algorithm, 1)
    kernel = 1 if algorithm == "pointwise" else 3
    case = ConvCase(
        rng.standard_normal((2, 40, 13, 17)).astype(np.float32),
        rng.standard_normal((40, 40 // group, kernel, kernel)).astype(np.float32),
        pads=(kernel // 2,) * 4,
        group=group,
        mask=make_mask(kind, (13, 17), rng),
        residual=rng.standard_normal((2, 40, 13, 17)).astype(np.float32),
        skipped_value=rng.standard_normal(40).astype(np.float32),
        activation={"activation": "relu"},
    )
    for isa in ISAS:
        if isa != "scalar" or algorithm != "grouped":
            check(case, algorithm, isa, 3)


def test_weights_larger_than_the_cache_are_summed_in_blocks() -> None:
    rng = np.random.default_rng(5)
    case = ConvCase(
        rng.standard_normal((2, 600, 6, 5)).astype(np.float32),
        rng.standard_normal((70, 600, 3, 3)).astype(np.float32),
        bias=rng.standard_normal(70).astype(np.float32),
        pads=(1, 1, 1, 1),
        mask=make_mask("random", (6, 5), rng),
        skipped_value=rng.standard_normal(70).astype(np.float32),
        residual=rng.standard_normal((2, 70, 6, 5)).astype(np.float32),
        activation={"activation": "silu"},
        layouts=(Layout(), Layout(), Layout(padded=False)),
    )
    for isa in ISAS:
        check(case, "direct", isa, 5)
        check(case, "active_taps", isa, 5)


@pytest.mark.parametrize("kinds", zip(MASKS[1:], MASKS[2:] + MASKS[1:2], strict=True))
def test_inputs_known_to_be_zero(kinds: tuple[str, str]) -> None:
    rng = np.random.default_rng(11)
    case = ConvCase(
        rng.standard_normal((2, 20, 19, 23)).astype(np.float32),
        rng.standard_normal((35, 20, 3, 3)).astype(np.float32),
        pads=(1, 1, 1, 1),
        mask=make_mask(kinds[0], (19, 23), rng),
        input_mask=make_mask(kinds[1], (19, 23), rng),
        residual=rng.standard_normal((2, 35, 19, 23)).astype(np.float32),
        activation={"activation": "relu"},
        layouts=(Layout(), Layout(padded=False), Layout()),
    )
    assert case.mask is not None
    assert case.input_mask is not None
    case.x *= case.input_mask
    for isa in ISAS:
        check(case, "direct", isa, 11)
        check(case, "active_taps", isa, 11)
    pairs = np.zeros((19, 23), int)
    known = np.pad(case.input_mask, 1).astype(int)
    for y, x in np.ndindex(3, 3):
        pairs += known[y : y + 19, x : x + 23] * case.mask
    packed = _native.pack(case.spec()[0], "active_taps", ISAS[-1])
    assert packed.macs == 2 * pairs.sum() * 20 * 35


@pytest.mark.parametrize("array", ["positions", "pairs"])
def test_damaged_pairs_are_refused(array: str) -> None:
    rng = np.random.default_rng(2)
    case = ConvCase(
        rng.standard_normal((1, 3, 8, 8)).astype(np.float32),
        rng.standard_normal((4, 3, 3, 3)).astype(np.float32),
        pads=(1, 1, 1, 1),
        mask=np.ones((8, 8), bool),
        input_mask=np.ones((8, 8), bool),
    )
    packed = _native.pack(case.spec()[0], "active_taps", "scalar")
    data = np.array(packed.data)
    y, x = np.indices((8, 8)).reshape(2, -1)
    first_tap = np.arange(64)[(y > 0) & (x > 0)]
    stored = {"positions": (y << 16 | x).astype(np.uint32), "pairs": first_tap.astype(np.uint8)}
    at = data.tobytes().find(stored[array].tobytes())
    assert at > 0
    data[at] = {"positions": 8, "pairs": 7}[array]  # a column, and one that reads the padding
    with pytest.raises(ActivsparseError, match="damaged"):
        _native.unpack("conv", "active_taps", "scalar", data, packed.inputs, packed.outputs)


def test_reference_equals_torch() -> None:
    for seed in range(40):
        case = random_conv(np.random.default_rng(seed), ("any", "grouped", "depthwise")[seed % 3])
        case.mask = case.source = case.skipped_value = case.residual = case.input_mask = None
        case.activation = {}
        top, left, bottom, right = case.pads
        x = torch.nn.functional.pad(torch.from_numpy(case.x).double(), (left, right, top, bottom))
        bias = None if case.bias is None else torch.from_numpy(case.bias).double()
        expected = torch.nn.functional.conv2d(
            x,
            torch.from_numpy(case.weight).double(),
            bias,
            case.stride,
            dilation=case.dilation,
            groups=case.group,
        ).numpy()
        actual = case.run("reference", "scalar")
        np.testing.assert_allclose(actual, expected, rtol=EPSILON, atol=1e-12, err_msg=str(seed))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ["silu", "sigmoid", "hardswish", "hardsigmoid"])
def test_activations_far_from_zero(name: str, isa: str) -> None:
    x = np.concatenate([np.linspace(-120, 120, 4001), [0.0, -1e30, 1e30, -88.0, 88.5]])
    x = x.astype(np.float32).reshape(1, 1, 1, -1)
    case = ConvCase(x, np.ones((1, 1, 1, 1), np.float32), activation={"activation": name})
    t = torch.from_numpy(x).double()
    expected = {
        "silu": torch.nn.functional.silu,
        "sigmoid": torch.sigmoid,
        "hardswish": torch.nn.functional.hardswish,
        "hardsigmoid": torch.nn.functional.hardsigmoid,
    }[name](t).numpy()
    # exp is good to 3 units in the last place and saturates at exp(-87) and exp(88)
    np.testing.assert_allclose(
        case.run("direct", isa),
        expected,
        rtol=8 * EPSILON,
        atol=2 * EPSILON * 10 + 121 * np.exp(-87),
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("bounds", [(-0.0, 0.5), (0.25, 0.5), (-1.0, 1.0), (-3.0, -0.25)])
def test_clips_to_bounds_of_any_sign(bounds: tuple[float, float], isa: str) -> None:
    rng = np.random.default_rng(11)
    for algorithm in ("direct", "pointwise"):
        case = ConvCase(
            rng.standard_normal((1, 9, 5, 7)).astype(np.float32),
            rng.standard_normal((24, 9, 1, 1)).astype(np.float32) / 3,
            bias=rng.standard_normal(24).astype(np.float32),
            activation={"activation": "clip", "lo": bounds[0], "hi": bounds[1]},
        )
        check(case, algorithm, isa, 11)


@pytest.mark.parametrize("isa", ISAS)
def test_fully_connected(isa: str) -> None:
    for seed in range(30):
        rng = np.random.default_rng(seed)
        n, f, o = int(rng.integers(1, 9)), int(rng.integers(1, 300)), int(rng.integers(1, 300))
        x = rng.standard_normal((n, f)).astype(np.float32)
        weight = rng.standard_normal((o, f)).astype(np.float32)
        bias = rng.standard_normal(o).astype(np.float32)
        inputs = Tensor.of(x[:, :, None, None], Layout(padded=seed % 2 == 0))
        output = Tensor.empty((n, o, 1, 1), Layout(padded=seed % 3 == 0))
        spec = _native.Spec(
            "gemm",
            {"activation": "relu"},
            {"weight": weight, "bias": bias},
            [inputs.desc],
            [output.desc],
        )
        packed = _native.pack(spec, "direct", isa)
        _native.run_operator(packed, [inputs.argument()], [output.argument()])
        output.assert_nothing_else_written()
        expected = np.maximum(x.astype(np.float64) @ weight.T.astype(np.float64) + bias, 0)
        bound: FloatArray = (f + 2) * EPSILON * (np.abs(x) @ np.abs(weight.T) + np.abs(bias))
        assert np.all(np.abs(output.values()[:, :, 0, 0] - expected) <= bound), f"seed {seed}"


def test_refusals_name_the_reason() -> None:
    case = random_conv(np.random.default_rng(0), "grouped")
    with pytest.raises(
        ActivsparseError, match="conv/pointwise cannot run this operator: it has groups"
    ):
        case.run("pointwise", ISAS[-1])


def test_computed_work_falls_with_the_mask() -> None:
    rng = np.random.default_rng(1)
    case = ConvCase(
        rng.standard_normal((1, 16, 12, 12)).astype(np.float32),
        rng.standard_normal((16, 16, 3, 3)).astype(np.float32),
        pads=(1, 1, 1, 1),
    )
    dense = _native.pack(case.spec()[0], "direct", ISAS[-1])
    case.mask = make_mask("lattice", (12, 12), rng)
    masked = _native.pack(case.spec()[0], "direct", ISAS[-1])
    assert masked.macs < 0.75 * dense.macs
    assert dense.macs <= 144 * 9 * 16 * 16
    assert masked.index_bytes < 144 * 4 + 2048
