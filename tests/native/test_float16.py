"""Operators on float16 against float32 ones on the same numbers, on random shapes with masks.

Where there is the arithmetic: here by the portable kernels, in an emulator (emulated.py) by those
of NEON.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers import ConvCase, Layout, make_mask, random_conv, random_layout

from activsparse import ActivsparseError, _native
from activsparse.engine.tolerance import HALF_ROUNDOFF, MOST_HALF_TERMS

ISAS = [isa for isa in _native.available_isas() if _native.computes_halves(isa)]
KINDS = {
    "direct_f16": ("any", "pointwise", "depthwise", "grouped"),
    "depthwise_f16": ("depthwise",),
}
SENTINEL = np.float16(12344)

Array = npt.NDArray[Any]


def halved(x: Array | None) -> Any:
    """The nearest float16 numbers, as float32."""
    return None if x is None else x.astype(np.float16).astype(np.float32)


def desc_of(shape: tuple[int, ...], layout: Layout, dtype: str) -> Any:
    n, c, h, w = shape
    return _native.TensorDesc(n, h, w, c, layout.stride(c), padded=layout.padded, dtype=dtype)


def laid_out(x: Array, layout: Layout, dtype: str) -> Array:
    """The values (N, C, H, W) in memory; all else is NaN."""
    n, c, h, w = x.shape
    whole = np.full((n, h, w, layout.stride(c)), np.nan, dtype)
    whole[..., layout.first : layout.first + c] = x.transpose(0, 2, 3, 1)
    return whole.reshape(-1)[layout.first :]


def run(
    kind: str,
    algorithm: str,
    isa: str,
    inputs: list[Array],
    shape: tuple[int, ...],
    attributes: dict[str, Any],
    arrays: dict[str, Array] | None = None,
    layouts: list[Layout] | None = None,
    dtypes: tuple[str, str] = ("float16", "float16"),
    threads: int = 1,
) -> Any:
    """The result (N, C, H, W) of an operator, None of what it refuses; nothing else is written."""
    layouts = layouts or [Layout()] * (len(inputs) + 1)
    descs = [desc_of(x.shape, at, dtypes[0]) for x, at in zip(inputs, layouts, strict=False)]
    out = layouts[-1]
    spec = _native.Spec(kind, attributes, arrays or {}, descs, [desc_of(shape, out, dtypes[1])])
    spec.threads = threads
    if dict(spec.algorithms(isa))[algorithm]:
        return None
    packed = _native.pack(spec, algorithm, isa)
    n, c, h, w = shape
    y = np.full((n, h, w, out.stride(c)), SENTINEL, dtypes[1])
    flat = y.reshape(-1)[out.first :]
    places = [laid_out(x, at, dtypes[0]) for x, at in zip(inputs, layouts, strict=False)]
    _native.run_operator(packed, places, [flat])
    own = -(-c // 16) * 16 if out.padded else c
    assert (y[..., : out.first] == SENTINEL).all()
    assert (y[..., out.first + own :] == SENTINEL).all(), "an operator wrote outside of its output"
    return y[..., out.first : out.first + c].transpose(0, 3, 1, 2)


def convolved(case: ConvCase, algorithm: str, isa: str) -> Any:
    """The result; None where the algorithm does not take the case."""
    arrays = {"weight": np.ascontiguousarray(case.weight)}
    for name in ("bias", "skipped_value", "mask", "input_mask", "source"):
        value = getattr(case, name)
        if value is not None:
            arrays[name] = value.astype(np.uint8) if "mask" in name else value
    attributes = {
        "stride_h": case.stride[0],
        "stride_w": case.stride[1],
        "dilation_h": case.dilation[0],
        "dilation_w": case.dilation[1],
        "group": case.group,
        **dict(zip(("pad_top", "pad_left", "pad_bottom", "pad_right"), case.pads, strict=True)),
        **case.activation,
    }
    inputs = [case.x] if case.residual is None else [case.x, case.residual]
    layouts = [case.layouts[0], *([case.layouts[1]] * (len(inputs) - 1)), case.layouts[2]]
    return run(
        "conv",
        algorithm,
        isa,
        inputs,
        case.output_shape,
        attributes,
        arrays,
        layouts,
        threads=case.threads,
    )


def tolerance(case: ConvCase) -> Array:
    """6 sqrt(n) times a rounding of every sum of n products, and one of the result.

    As `ConvCase.tolerance` has it for float32 (Higham and Mary), of sums of n in float16.
    """
    k = case.weight[0].size
    magnitudes = replace(
        case,
        x=np.abs(case.x),
        weight=np.abs(case.weight),
        bias=None if case.bias is None else np.abs(case.bias),
        residual=None if case.residual is None else np.abs(case.residual),
        skipped_value=None if case.skipped_value is None else np.abs(case.skipped_value),
        activation={},
    ).run("reference", "scalar")
    sums = 6 * np.sqrt(min(k, MOST_HALF_TERMS))
    return np.asarray(HALF_ROUNDOFF * (sums + 2) * (magnitudes + 1e-3))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    ("algorithm", "kind"), [(a, kind) for a, kinds in KINDS.items() for kind in kinds]
)
def test_random_convolutions(algorithm: str, kind: str, isa: str) -> None:
    ran = 0
    for seed in range(30):
        drawn = random_conv(np.random.default_rng(seed), kind)
        case = replace(
            drawn,
            x=halved(drawn.x),
            weight=halved(drawn.weight),
            residual=halved(drawn.residual),
        )
        expected = case.run("reference", "scalar")
        actual = convolved(case, algorithm, isa)
        if actual is None:
            continue
        excess = float((np.abs(actual - expected) / tolerance(case)).max(initial=0))
        assert excess <= 1, f"{excess} times the tolerance, seed {seed}: {case.describe()}"
        ran += 1
    assert ran > 20


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("algorithm", ["direct_f16", "depthwise_f16"])
def test_every_channel_count(algorithm: str, isa: str) -> None:
    rng = np.random.default_rng(7)
    for channels in range(1, 70):
        depthwise = algorithm == "depthwise_f16"
        weight = rng.standard_normal((channels, 1 if depthwise else 20, 3, 3))
        case = ConvCase(
            halved(rng.standard_normal((1, channels if depthwise else 20, 6, 5))),
            halved(weight),
            bias=rng.standard_normal(channels).astype(np.float32),
            pads=(1, 1, 1, 1),
            group=channels if depthwise else 1,
            mask=make_mask("random", (6, 5), rng),
            layouts=(random_layout(rng), random_layout(rng), random_layout(rng)),
            activation={"activation": "relu"},
        )
        excess = np.abs(convolved(case, algorithm, isa) - case.run("reference", "scalar"))
        assert (excess <= tolerance(case)).all(), case.describe()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("activation", [{}, {"activation": "silu"}, {"activation": "relu"}])
def test_fully_connected_layers(isa: str, activation: dict[str, Any]) -> None:
    rng = np.random.default_rng(8)
    for n, features, outputs in ((1, 1280, 100), (3, 77, 33), (7, 16, 1)):
        x, weight = (halved(rng.standard_normal(s)) for s in ((n, features), (outputs, features)))
        bias = rng.standard_normal(outputs).astype(np.float32)
        arrays = {"weight": weight, "bias": bias}
        image, shape = x[:, :, None, None], (n, outputs, 1, 1)
        actual = run("gemm", "direct_f16", isa, [image], shape, activation, arrays)
        # The reference on the same numbers, in float32.
        conv = ConvCase(image, weight[:, :, None, None], bias=bias, activation=activation)
        assert (np.abs(actual - conv.run("reference", "scalar")) <= tolerance(conv)).all()


def same_as_float32(
    kind: str,
    isa: str,
    inputs: list[Array],
    shape: tuple[int, ...],
    attributes: dict[str, Any],
    arrays: dict[str, Array] | None = None,
    seed: int = 0,
) -> None:
    """Whether an operator computes in float32 and rounds once."""
    rng = np.random.default_rng(seed)
    layouts = [random_layout(rng) for _ in (*inputs, shape)][: len(inputs) + 1]
    half = run(kind, "vector", isa, inputs, shape, attributes, arrays, layouts)
    whole = run(
        kind, "vector", isa, inputs, shape, attributes, arrays, layouts, ("float32", "float32")
    )
    np.testing.assert_array_equal(half, whole.astype(np.float16), f"{kind} {layouts} seed {seed}")


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("activation", [{}, {"activation": "relu"}, {"activation": "hardswish"}])
def test_sums_and_products(isa: str, activation: dict[str, Any]) -> None:
    rng = np.random.default_rng(9)
    for seed in range(30):
        n, c, h, w = (int(rng.integers(1, most)) for most in (3, 50, 8, 8))
        other = [(n, c, h, w), (n, c, 1, 1), (1, c, 1, 1), (n, 1, h, w)][seed % 4]
        inputs = [halved(rng.standard_normal(shape)) for shape in ((n, c, h, w), other)]
        kind = ("add", "mul")[seed // 4 % 2]
        same_as_float32(kind, isa, inputs, (n, c, h, w), activation, seed=seed)
        if activation:
            same_as_float32("activate", isa, inputs[:1], (n, c, h, w), activation, seed=seed)


@pytest.mark.parametrize("isa", ISAS)
def test_pools(isa: str) -> None:
    rng = np.random.default_rng(10)
    for seed in range(20):
        n, c, h, w = (int(rng.integers(1, 3)), int(rng.integers(1, 80)), 9, 11)
        x = halved(rng.standard_normal((n, c, h, w)))
        x.reshape(-1)[rng.integers(x.size, size=3)] = (np.nan, np.inf, -np.inf)
        stride = int(rng.integers(1, 3))
        window = {"kernel_h": 3, "kernel_w": 3, "stride_h": stride, "stride_w": stride}
        pads = {f"pad_{side}": 1 for side in ("top", "left", "bottom", "right")}
        shape = (n, c, (h - 1) // stride + 1, (w - 1) // stride + 1)
        for kind in ("max_pool", "average_pool"):
            same_as_float32(kind, isa, [x], shape, {**window, **pads}, seed=seed)
        same_as_float32("global_average_pool", isa, [x], (n, c, 1, 1), {}, seed=seed)


@pytest.mark.parametrize("isa", ISAS)
def test_moves(isa: str) -> None:
    rng = np.random.default_rng(11)
    for seed in range(10):
        c, more = (int(rng.integers(1, 40)) for _ in range(2))
        x, y = (halved(rng.standard_normal((2, k, 4, 5))) for k in (c, more))
        same_as_float32("copy", isa, [x], x.shape, {}, seed=seed)
        same_as_float32("concat", isa, [x, y], (2, c + more, 4, 5), {}, seed=seed)
        twice = {"scale_h": 2, "scale_w": 3}
        same_as_float32("resize_nearest", isa, [x], (2, c, 8, 15), twice, seed=seed)
        source = rng.integers(20, size=20).astype(np.int32)
        same_as_float32("gather_positions", isa, [x], x.shape, {}, {"source": source}, seed)


@pytest.mark.parametrize("isa", ISAS)
def test_conversions(isa: str) -> None:
    rng = np.random.default_rng(12)
    for seed in range(10):
        c = int(rng.integers(1, 60))
        x = (rng.standard_normal((1, c, 4, 5)) * 10.0 ** rng.integers(-9, 6)).astype(np.float32)
        layouts = [random_layout(rng), random_layout(rng)]
        with np.errstate(over="ignore"):
            wanted = x.astype(np.float16)
        types = ("float32", "float16")
        half = run("to_float16", "vector", isa, [x], x.shape, {}, None, layouts, types)
        np.testing.assert_array_equal(half, wanted, f"seed {seed}")
        back = run("to_float32", "vector", isa, [half], x.shape, {}, None, layouts, types[::-1])
        np.testing.assert_array_equal(back, wanted.astype(np.float32), f"seed {seed}")


def test_other_operators_refuse_them() -> None:
    x = desc_of((1, 16, 4, 4), Layout(), "float16")
    y = desc_of((1, 16, 4, 4), Layout(), "float32")
    weight = {"weight": np.zeros((16, 16, 1, 1), np.float32)}
    reasons = dict(_native.Spec("conv", {}, weight, [x], [x]).algorithms("scalar"))
    assert reasons["direct_f16"] == ""
    assert reasons["pointwise"] == reasons["winograd4"] == "its tensors are float16"
    reasons = dict(_native.Spec("conv", {}, weight, [y], [y]).algorithms("scalar"))
    assert reasons["direct_f16"] == "its tensors are not float16"
    for isa in ("avx2", "avx512"):
        reasons = dict(_native.Spec("conv", {}, weight, [x], [x]).algorithms(isa))
        assert reasons["direct_f16"] == "the instruction set has no arithmetic in float16"
    with pytest.raises(ActivsparseError, match="not float16"):
        _native.pack(_native.Spec("conv", {}, weight, [x], [y]), "direct_f16", "scalar")
    with pytest.raises(ActivsparseError, match="differ in type"):
        _native.pack(_native.Spec("copy", {}, {}, [x], [y]), "vector", "scalar")
    arrays = {"slope": np.ones(16, np.float32)}
    with pytest.raises(ActivsparseError, match="constants are float32"):
        _native.pack(_native.Spec("prelu", {}, arrays, [x], [x]), "vector", "scalar")
