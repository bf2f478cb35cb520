"""NaN in, NaN out, and what infinities and denormals become: docs/numerics.md, "NaN and infinity".

Every operator, algorithm and instruction set here. A NaN is in every result it takes part in by the
operator's definition, and in no other one; only Winograd's tiles may spread it among themselves.
"""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch
from buffers import LAYOUTS, Buffer
from helpers import ConvCase, FloatArray, Layout, draw_epilogue, random_conv
from test_conv_max_pool import pooled
from test_conv_max_pool import random_case as random_stem_pool
from test_conv_max_pool import run as run_stem_pool
from test_inverted_residual import random_case as random_residual
from test_operators import (
    ACTIVATIONS,
    CLIP,
    EPS,
    REDUCTIONS,
    STEEP,
    activated,
    pack,
    pool_oracle,
    reduced,
    run,
)
from test_winograd_stem import random_stem
from torch.nn import functional

from activsparse import _native

ISAS = _native.available_isas()
NEGATIVE_NAN = np.uint32(0xFFC00000).view(np.float32)  # what processors make of inf - inf
ODD = np.array(
    [np.nan, NEGATIVE_NAN, np.inf, -np.inf, 3e38, -3e38, 1e-40, -1e-40, 0, 1, -87.5, -88.2, -95],
    np.float32,
)


def put_nan(values: FloatArray, rng: np.random.Generator, live: np.ndarray | None = None) -> None:
    """Make a few elements of (N, C, H, W) NaN, of those where `live` (H, W) is true."""
    places = np.argwhere(np.broadcast_to(True if live is None else live, values.shape))
    for place in rng.permutation(places)[: int(rng.integers(1, 4))]:
        values[tuple(place)] = NEGATIVE_NAN if rng.random() < 0.5 else np.nan


def three_by_three(rng: np.random.Generator, chequered: bool = False) -> ConvCase:
    """A convolution that Winograd's algorithms take."""
    n, c, o, h, w = (
        int(rng.integers(*ends)) for ends in ((1, 3), (1, 40), (1, 40), (3, 30), (3, 30))
    )
    stride = 1 if chequered else int(rng.integers(1, 3))
    case = ConvCase(
        rng.standard_normal((n, c, h, w)).astype(np.float32),
        rng.standard_normal((o, c, 3, 3)).astype(np.float32),
        stride=(stride, stride),
        pads=(1, 1, 1, 1),
        layouts=(Layout(), Layout(padded=False), Layout()),
    )
    draw_epilogue(case, rng)
    if chequered:
        y, x = np.indices((h, w))
        case.mask = case.input_mask = (y + x) % 2 == 0
        case.source = None
        case.x *= case.input_mask
    return case


def convolutions(rng: np.random.Generator) -> list[ConvCase]:
    kinds = ("any", "pointwise", "depthwise", "grouped", "small_groups", "stem")
    return [
        *(random_conv(rng, kind) for kind in kinds),
        random_stem(rng),
        three_by_three(rng),
        three_by_three(rng, chequered=True),
    ]


def reached(case: ConvCase) -> np.ndarray:
    """Outputs (N, O, OH, OW) that a NaN of the input or of the residual takes part in."""
    top, left, bottom, right = case.pads
    marks = functional.pad(torch.from_numpy(np.isnan(case.x)).double(), (left, right, top, bottom))
    ones = torch.ones(case.weight.shape, dtype=torch.float64)
    hit = (
        functional.conv2d(marks, ones, None, case.stride, 0, case.dilation, case.group).numpy() > 0
    )
    if case.mask is not None and case.source is None:
        hit &= case.mask
    if case.source is not None:
        hit = hit.reshape(*hit.shape[:2], -1)[..., case.source].reshape(hit.shape)
    return hit if case.residual is None else hit | np.isnan(case.residual)


def near(case: ConvCase, tile: int = 6) -> np.ndarray:
    """Outputs (N, 1, OH, OW) that share a Winograd tile of at most `tile` rows with a NaN."""
    n, _, oh, ow = case.output_shape
    close = np.zeros((n, 1, oh, ow), bool)
    for image, _, y, x in np.argwhere(np.isnan(case.x)):
        spans = []
        for axis, at in enumerate((y, x)):
            reach = (tile + 4) * case.stride[axis]  # its patch has at most 4 strides more
            first = np.arange((oh, ow)[axis]) * case.stride[axis] - case.pads[axis]
            spans.append(np.abs(first - at) <= reach)
        close[image, 0] |= np.outer(*spans)
    return close


def test_convolutions() -> None:
    seen = set()
    for seed in range(14):
        rng = np.random.default_rng(seed)
        for case in convolutions(rng):
            case.activation = {"activation": str(rng.choice(list(ACTIVATIONS))), **CLIP}
            put_nan(case.x, rng, case.input_mask)
            if case.residual is not None:
                put_nan(case.residual, rng)
            expected = replace(case, nchw=False).run("reference", "scalar")
            hit = reached(case)
            np.testing.assert_array_equal(np.isnan(expected), hit, f"{seed}: {case.describe()}")
            clean = replace(case, x=np.nan_to_num(case.x))
            if clean.residual is not None:
                clean.residual = np.nan_to_num(clean.residual)
            tolerance = clean.tolerance()
            for isa in ISAS:
                for algorithm in dict(case.spec()[0].algorithms(isa)):
                    if algorithm == "reference" or not case.supported(algorithm, isa):
                        continue
                    seen.add((algorithm, isa))
                    what = f"conv/{algorithm} on {isa}, seed {seed}: {case.describe()}"
                    actual = case.run(algorithm, isa)
                    found = np.isnan(actual)
                    assert found[hit].all(), f"a NaN is lost by {what}"
                    allowed = hit | near(case) if algorithm.startswith("winograd") else hit
                    assert not (found & ~allowed).any(), f"a NaN is made up by {what}"
                    error = np.abs(actual - expected)[~found] / tolerance[~found]
                    assert error.max(initial=0) <= 10, (error.max(), what)
    names = {algorithm for algorithm, _ in seen}
    assert len(names) == 15, sorted(names)
    everywhere = {n for n in names if "winograd" not in n and n != "grouped"}
    assert seen >= {(n, isa) for n in everywhere for isa in ISAS}, sorted(seen)


@pytest.mark.parametrize("seed", range(12))
def test_inverted_residuals(seed: int) -> None:
    rng = np.random.default_rng(seed)
    case = random_residual(rng, stem=bool(seed % 2))
    first, last = (list(case.stages.values())[i] for i in (0, -1))
    for stage in case.stages.values():
        stage.activation = {"activation": str(rng.choice(list(ACTIVATIONS))), **CLIP}
    put_nan(first.x, rng)
    if last.residual is not None:
        put_nan(last.residual, rng)
    expected = np.isnan(case.one_by_one())
    for isa in ISAS:
        found = np.isnan(case.run("strips", isa))
        np.testing.assert_array_equal(found, expected, f"{isa}, seed {seed}: {case.describe()}")


@pytest.mark.parametrize("seed", range(6))
def test_first_convolutions_with_a_pool(seed: int) -> None:
    rng = np.random.default_rng(seed)
    case, window = random_stem_pool(rng)
    put_nan(case.x, rng)
    expected = np.isnan(pooled(replace(case, nchw=False).run("reference", "scalar"), window))
    for isa in ISAS:
        found = np.isnan(run_stem_pool(case, window, Layout(), isa))
        assert found[expected].all(), (
            f"{isa}, seed {seed}: a NaN is lost: {case.describe()} {window}"
        )


@pytest.mark.parametrize("seed", range(12))
def test_pools(seed: int) -> None:
    rng = np.random.default_rng(seed)
    average = bool(seed % 2)
    geometry = {name: int(rng.integers(1, 5)) for name in ("kernel_h", "kernel_w")}
    geometry |= {name: int(rng.integers(1, 3)) for name in ("stride_h", "stride_w")}
    geometry |= {f"dilation_{a}": 1 if average else int(rng.integers(1, 3)) for a in "hw"}
    for side, axis in (("top", "h"), ("bottom", "h"), ("left", "w"), ("right", "w")):
        geometry[f"pad_{side}"] = int(rng.integers(0, geometry[f"kernel_{axis}"]))
    x = rng.standard_normal((2, 11, 13, int(rng.integers(1, 90)))).astype(np.float32)
    put_nan(x, rng)
    x[rng.random(x.shape) < 0.02] = NEGATIVE_NAN
    x[rng.random(x.shape) < 0.02] = np.inf
    x[0, 2, 3] = -np.inf
    with np.errstate(invalid="ignore"):
        value = pool_oracle(x, average, geometry)
    kind = "average_pool" if average else "max_pool"
    for isa, name in itertools.product(ISAS, ACTIVATIONS):
        source, target = Buffer(x.shape, LAYOUTS[seed % 3], x), Buffer(value.shape)
        attributes = {"activation": name, **CLIP, **geometry}
        run(pack(kind, isa, [source], target, attributes), [source], target)
        agree(target.values, activated(value, name), (isa, kind, name, seed, geometry))


def test_global_average_pool() -> None:
    x = np.random.default_rng(0).standard_normal((3, 5, 4, 37)).astype(np.float32)
    x[0, 2, 3, 5] = x[2, 0, 0, 36] = np.nan
    for isa in ISAS:
        source, target = Buffer(x.shape, "tight", x), Buffer((3, 1, 1, 37))
        run(pack("global_average_pool", isa, [source], target), [source], target)
        agree(target.values, x.mean((1, 2), dtype=np.float64, keepdims=True), isa)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name: str, isa: str) -> None:
    x = np.resize(ODD, (1, 3, 1, 29))  # every value in lanes of whole vectors and of the last one
    source, target = Buffer(x.shape, "tight", x), Buffer(x.shape)
    run(pack("activate", isa, [source], target, {"activation": name, **CLIP}), [source], target)
    agree(target.values, activated(x, name), (isa, name))
    source, target = Buffer(x.shape, "tight", x), Buffer(x.shape)
    run(
        pack("add", isa, [source, source], target, {"activation": name, **CLIP}),
        [source] * 2,
        target,
    )
    with np.errstate(over="ignore"):
        agree(target.values, activated(x + x, name), (isa, name, "of a sum"))


def agree(actual: np.ndarray, expected: np.ndarray, what: object) -> None:
    """Equal NaN and infinities; the others to a few roundings, or the least normal number."""
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected), str(what))
    with np.errstate(over="ignore"):
        rounded = expected.astype(np.float32)
    numbers = np.isfinite(rounded)
    np.testing.assert_array_equal(actual[np.isinf(rounded)], rounded[np.isinf(rounded)], str(what))
    error = np.abs(actual[numbers].astype(np.float64) - expected[numbers])
    size = np.abs(expected)[numbers]
    assert (error <= 200 * EPS * size + 32 * EPS * (size < 100) + 1e-36).all(), (what, error.max())


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", STEEP)
def test_steep_functions(name: str, isa: str) -> None:
    x = np.resize(ODD, (1, 3, 1, 29))
    source, target = Buffer(x.shape, "tight", x), Buffer(x.shape)
    run(pack("activate", isa, [source], target, {"activation": name}), [source], target)
    agree(target.values, activated(x, name), (isa, name))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("groups", [0, 1, 7, 42])
def test_normalize(groups: int, isa: str) -> None:
    """All of a group that holds a NaN, or an infinity, is NaN, and nothing else."""
    x = np.random.default_rng(groups).standard_normal((2, 3, 5, 42)).astype(np.float32)
    x[0, 1, 2, 5] = np.nan
    x[0, 2, 3, 17] = NEGATIVE_NAN
    x[1, 0, 0, 41] = np.inf
    hit = ~np.isfinite(x)
    if groups:
        whole = hit.reshape(2, 15, groups, -1).any((1, 3))
        hit = np.broadcast_to(whole.repeat(42 // groups, 1)[:, None, None], x.shape)
    else:
        hit = np.broadcast_to(hit.any(3, keepdims=True), x.shape)
    source, target = Buffer(x.shape, "tight", x), Buffer(x.shape)
    arrays = {"scale": np.ones(42, np.float32), "shift": np.zeros(42, np.float32)}
    attributes = {"groups": groups, "epsilon": 1e-5}
    run(pack("normalize", isa, [source], target, attributes, arrays), [source], target)
    np.testing.assert_array_equal(np.isnan(target.values), hit)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("function", REDUCTIONS)
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1)])
def test_reduce(function: str, isa: str, axes: tuple[int, ...]) -> None:
    x = np.random.default_rng(0).standard_normal((13, 40)).astype(np.float32)
    x[3, 5], x[0, 39], x[7, 7], x[9, 8], x[12, 8] = np.nan, NEGATIVE_NAN, np.inf, -np.inf, np.inf
    for order in ((0, 1), (1, 0)):
        got = reduced(x, axes, order, isa, function=function)
        with np.errstate(all="ignore"):
            expected = np.asarray(REDUCTIONS[function](x.astype(np.float64), axis=axes))
        agree(got, expected, (isa, function, axes, order))


@pytest.mark.parametrize("isa", ISAS)
def test_softmax(isa: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 5, 4, 43)).astype(np.float32) * 30
    x[0, 0, 0, 7] = x[0, 0, 1, 42] = np.nan
    x[0, 1, 2] = NEGATIVE_NAN
    x[0, 1, 3, 9] = np.inf
    x[0, 2, :, 3:20] = -np.inf  # as attention masks do
    x[0, 3, 1] = -np.inf
    x[0, 4] = 3e38
    expected = torch.softmax(torch.from_numpy(x), 3).numpy()
    source, target = Buffer(x.shape, "tight", x), Buffer(x.shape)
    run(pack("softmax", isa, [source], target), [source], target)
    agree(target.values, expected, isa)
    assert (target.values[0, 2, :, 3:20] == 0).all()


@pytest.mark.parametrize("isa", ISAS)
def test_arithmetic(isa: str) -> None:
    a, b = (np.ascontiguousarray(v, np.float32) for v in np.meshgrid(ODD, ODD, indexing="ij"))
    desc = _native.TensorDesc(1, 1, 1, a.size, a.size)
    arrays = {"shape": np.array([*a.shape], np.int32)}
    for view in "aby":
        arrays[f"{view}_strides"] = np.array([len(ODD), 1], np.int32)
    functions = {
        "add": np.add,
        "subtract": np.subtract,
        "multiply": np.multiply,
        "divide": np.divide,
        "minimum": np.minimum,
        "maximum": np.maximum,
    }
    for (name, function), activation in itertools.product(functions.items(), ("none", "relu")):
        attributes = {"function": name, "activation": activation}
        spec = _native.Spec("combine", attributes, arrays, [desc, desc], [desc])
        y = np.empty(a.shape, np.float32)
        _native.run_operator(
            _native.pack(spec, "vector", isa), [a.ravel(), b.ravel()], [y.reshape(-1)]
        )
        with np.errstate(all="ignore"):
            expected = function(a, b)
        agree(y, activated(expected, activation), (isa, name, activation))


def test_prelu_of_odd_values() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 6, 7, 21)).astype(np.float32)
    slope = rng.uniform(-2, 2, 21).astype(np.float32)
    for at, value in enumerate((np.nan, np.inf, -np.inf, 0.0, -0.0)):
        x[at % 2, at] = value
    for isa, layout in itertools.product(ISAS, LAYOUTS):
        source, target = Buffer(x.shape, layout, x), Buffer(x.shape, layout)
        run(pack("prelu", isa, [source], target, {}, {"slope": slope}), [source], target)
        agree(target.values, np.where(x > 0, x, slope * x), (isa, layout))


def test_masked_positions_are_zero_whatever_they_held() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 6, 7, 21)).astype(np.float32)
    mask = rng.random((6, 7)) < 0.5
    x[:, ~mask] = np.nan
    x[0, 2, 3] = np.inf
    kept = np.where(mask[None, :, :, None], x, 0)
    for isa, name, layout in itertools.product(ISAS, ACTIVATIONS, LAYOUTS):
        source, target = Buffer(x.shape, layout, x), Buffer(x.shape, layout)
        arrays = {"mask": mask.astype(np.uint8)}
        attributes = {"activation": name, **CLIP}
        run(pack("mask_multiply", isa, [source], target, attributes, arrays), [source], target)
        agree(target.values, activated(kept, name), (isa, name, layout))
