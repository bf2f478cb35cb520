"""Every operator without weights against torch or numpy, on each instruction set and layout."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from buffers import LAYOUTS, Buffer
from torch.nn import functional

from activsparse import ActivsparseError, _native

ISAS = _native.available_isas()
EPS = float(np.finfo(np.float32).eps)
CHANNELS = (1, 3, 8, 15, 16, 17, 33, 64, 100)
ACTIVATIONS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "none": lambda x: x,
    "relu": functional.relu,
    "clip": lambda x: x.clamp(-0.25, 0.5),
    "hardswish": functional.hardswish,
    "silu": functional.silu,
    "sigmoid": torch.sigmoid,
    "hardsigmoid": functional.hardsigmoid,
    "leaky_relu": lambda x: functional.leaky_relu(x, CLIP["lo"]),
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "mish": lambda x: x * functional.softplus(x, threshold=60).tanh(),
    "elu": lambda x: functional.elu(x, CLIP["lo"]),
    "softplus": lambda x: functional.softplus(x, threshold=60),
    "erf": torch.erf,
    "abs": torch.abs,
    "sin": torch.sin,
    "cos": torch.cos,
}
STEEP: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "exp": torch.exp,
    "sqrt": torch.sqrt,
    "reciprocal": torch.reciprocal,
    "log": torch.log,
}
"""Whose error has no bound in that of what they read."""
CLIP = {"lo": -0.25, "hi": 0.5}


def pack(
    kind: str,
    isa: str,
    inputs: list[Buffer],
    output: Buffer,
    attributes: dict[str, Any] | None = None,
    arrays: dict[str, np.ndarray] | None = None,
    algorithm: str = "vector",
) -> _native.PackedOperator:
    spec = _native.Spec(
        kind, attributes or {}, arrays or {}, [b.desc for b in inputs], [output.desc]
    )
    return _native.pack(spec, algorithm, isa)


def run(packed: _native.PackedOperator, inputs: list[Buffer], output: Buffer) -> None:
    _native.run_operator(packed, [b.array for b in inputs], [output.array])


def draw(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (2 * rng.standard_normal(shape)).astype(np.float32)


def shapes(rng: np.random.Generator) -> tuple[int, int, int]:
    return int(rng.integers(1, 4)), int(rng.integers(1, 20)), int(rng.integers(1, 20))


def activated(x: np.ndarray, name: str) -> np.ndarray:
    return (ACTIVATIONS | STEEP)[name](torch.from_numpy(x.astype(np.float64))).numpy()


def cases(seed: int) -> itertools.product:
    """Instruction set, activation, layout of the input and of the output; fewer for later seeds."""
    layouts = LAYOUTS if seed == 0 else (LAYOUTS[seed % 3],)
    return itertools.product(ISAS, ACTIVATIONS, layouts, layouts)


@pytest.mark.parametrize("channels", CHANNELS)
def test_activate(channels: int) -> None:
    rng = np.random.default_rng(channels)
    n, h, w = shapes(rng)
    x = draw(rng, n, h, w, channels) * 4
    for isa, name, layout_in, layout_out in cases(0):
        source, target = Buffer(x.shape, layout_in, x), Buffer(x.shape, layout_out)
        run(pack("activate", isa, [source], target, {"activation": name, **CLIP}), [source], target)
        # exp is good to 4 ulp; two more roundings follow it.
        target.check(
            activated(x, name), 8 * EPS * (1 + np.abs(x)), (isa, name, layout_in, layout_out)
        )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", STEEP)
def test_steep_functions(isa: str, name: str) -> None:
    rng = np.random.default_rng(len(name))
    x = rng.uniform(-110, 90, 8192) if name == "exp" else 10.0 ** rng.uniform(-30, 30, 8192)
    x = x.astype(np.float32).reshape(1, 1, 1, -1)
    source, target = Buffer(x.shape, "tight", x), Buffer(x.shape)
    run(pack("activate", isa, [source], target, {"activation": name}), [source], target)
    expected = activated(x, name)
    finite = np.abs(expected) < 3.4e38
    assert (target.values[~finite] == np.inf).all()
    error = np.abs(np.where(finite, target.values, 0) - np.where(finite, expected, 0))
    assert (error <= 4 * EPS * np.abs(expected) + 2.0**-149).all(), (isa, error.max())


@pytest.mark.parametrize("isa", ISAS)
def test_activations_far_out(isa: str) -> None:
    x = np.array([-1e30, -200, -100, -88, 0, 88, 100, 200, 1e30], np.float32).reshape(1, 1, 1, -1)
    for name in ACTIVATIONS:
        source, target = Buffer(x.shape, "tight", x), Buffer(x.shape)
        run(pack("activate", isa, [source], target, {"activation": name, **CLIP}), [source], target)
        # exp saturates near 2^-126 and 2^127: silu of a huge negative number is huge times tiny.
        expected = activated(x, name)
        tolerance = 8 * EPS * np.abs(expected) + np.abs(x) * 2.0**-120
        target.check(expected, tolerance, (isa, name))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "name",
    [
        *("tanh", "silu", "hardswish", "leaky_relu", "relu", "none"),
        *("gelu", "gelu_tanh", "mish", "elu", "erf", "abs"),
    ],
)
def test_activations_that_keep_zero_keep_digits_near_it(isa: str, name: str) -> None:
    rng = np.random.default_rng(len(name))
    x = (rng.choice([-1, 1], 4096) * 10.0 ** rng.uniform(-12, 0, 4096)).astype(np.float32)
    x = x.reshape(1, 1, 1, -1)
    source, target = Buffer(x.shape, "tight", x), Buffer(x.shape)
    run(pack("activate", isa, [source], target, {"activation": name, **CLIP}), [source], target)
    target.check(activated(x, name), 8 * EPS * np.abs(x), (isa, name))


OPERANDS = {
    "full": lambda n, h, w, c: (n, h, w, c),
    "channels": lambda n, h, w, c: (n, 1, 1, c),
    "positions": lambda n, h, w, c: (n, h, w, 1),
    "images": lambda n, h, w, c: (1, h, w, c),
}


@pytest.mark.parametrize("kind", ["add", "mul"])
@pytest.mark.parametrize("channels", CHANNELS)
def test_binary(kind: str, channels: int) -> None:
    rng = np.random.default_rng(channels)
    shape = (*shapes(rng), channels)
    function = np.add if kind == "add" else np.multiply
    for index, (a_kind, b_kind) in enumerate(itertools.product(OPERANDS, OPERANDS)):
        a, b = (draw(rng, *OPERANDS[k](*shape)) for k in (a_kind, b_kind))
        full = np.broadcast_shapes(a.shape, b.shape)
        if full != shape or (a_kind == b_kind and a_kind != "full"):
            continue
        name = list(ACTIVATIONS)[index % len(ACTIVATIONS)]
        expected = activated(function(a.astype(np.float64), b), name)
        for isa, layout in itertools.product(ISAS, itertools.product(LAYOUTS, repeat=3)):
            sources = [Buffer(a.shape, layout[0], a), Buffer(b.shape, layout[1], b)]
            target = Buffer(shape, layout[2])
            run(pack(kind, isa, sources, target, {"activation": name, **CLIP}), sources, target)
            magnitude = 1 + np.abs(a * 1.0) + np.abs(b) + np.abs(a * b)
            target.check(expected, 8 * EPS * magnitude, (isa, a_kind, b_kind, name, layout))


@pytest.mark.parametrize("channels", CHANNELS)
def test_scale_shift_and_mask(channels: int) -> None:
    rng = np.random.default_rng(channels)
    n, h, w = shapes(rng)
    x = draw(rng, n, h, w, channels)
    scale, shift = draw(rng, channels), draw(rng, channels)
    mask = rng.random((h, w)) < 0.6
    field = draw(rng, h, w)
    for isa, name, layout_in, layout_out in cases(0):
        source, target = Buffer(x.shape, layout_in, x), Buffer(x.shape, layout_out)
        attributes = {"activation": name, **CLIP}
        for kind, arrays, value in (
            ("scale_shift", {"scale": scale, "shift": shift}, x.astype(np.float64) * scale + shift),
            ("mask_multiply", {"mask": mask.astype(np.uint8)}, x * mask[None, :, :, None]),
            ("mask_multiply", {"mask": field}, x.astype(np.float64) * field[None, :, :, None]),
        ):
            run(pack(kind, isa, [source], target, attributes, arrays), [source], target)
            tolerance = 8 * EPS * (1 + np.abs(value) + np.abs(x * np.abs(scale).max()))
            target.check(activated(value, name), tolerance, (isa, kind, name))


@pytest.mark.parametrize("channels", CHANNELS)
def test_prelu(channels: int) -> None:
    rng = np.random.default_rng(channels)
    x, slope = draw(rng, *shapes(rng), channels), draw(rng, channels)
    expected = np.where(x > 0, x, slope * x.astype(np.float64))
    for isa, layout_in, layout_out in itertools.product(ISAS, LAYOUTS, LAYOUTS):
        source, target = Buffer(x.shape, layout_in, x), Buffer(x.shape, layout_out)
        run(pack("prelu", isa, [source], target, {}, {"slope": slope}), [source], target)
        target.check(expected, 2 * EPS * np.abs(expected), (isa,))


@pytest.mark.parametrize("channels", CHANNELS)
def test_moves(channels: int) -> None:
    rng = np.random.default_rng(channels)
    n, h, w = shapes(rng)
    x = draw(rng, n, h, w, channels)
    source = rng.integers(0, h * w, (h + 1) * w).astype(np.int32)
    gathered = x.reshape(n, h * w, channels)[:, source].reshape(n, h + 1, w, channels)
    for isa, name, layout_in, layout_out in cases(0):
        attributes = {"activation": name, **CLIP}
        for kind, more, arrays, value in (
            ("copy", {}, {}, x),
            ("resize_nearest", {"scale_h": 2, "scale_w": 3}, {}, x.repeat(2, 1).repeat(3, 2)),
            ("gather_positions", {}, {"source": source}, gathered),
            ("resize_positions", {}, {"source": source}, gathered),
        ):
            a, target = Buffer(x.shape, layout_in, x), Buffer(value.shape, layout_out)
            run(pack(kind, isa, [a], target, {**attributes, **more}, arrays), [a], target)
            target.check(activated(value, name), 8 * EPS * (1 + np.abs(value)), (isa, kind, name))


@pytest.mark.parametrize("channels", CHANNELS)
def test_resize_linear(channels: int) -> None:
    rng = np.random.default_rng(channels)
    n, h, w = shapes(rng)
    x = draw(rng, n, h, w, channels)
    sizes = [int(size) for size in rng.integers(1, 9, 2)]
    arrays, axes = {}, []
    for name, out, before in (("rows", sizes[0], h), ("columns", sizes[1], w)):
        arrays[name] = rng.integers(0, before, (2, out)).astype(np.int32)
        arrays[f"{name}_weights"] = rng.random((2, out), np.float32)
        axes.append((arrays[name], arrays[f"{name}_weights"].astype(np.float64)))
    (rows, shares), (columns, parts) = axes
    value = sum(
        shares[i][None, :, None, None]
        * parts[j][None, None, :, None]
        * x[:, rows[i]][:, :, columns[j]].astype(np.float64)
        for i in range(2)
        for j in range(2)
    )
    for isa, name, layout_in, layout_out in cases(0):
        a, target = Buffer(x.shape, layout_in, x), Buffer(value.shape, layout_out)
        attributes = {"activation": name, **CLIP}
        run(pack("resize_linear", isa, [a], target, attributes, arrays), [a], target)
        target.check(activated(value, name), 16 * EPS * (1 + np.abs(value).max()), (isa, name))


@pytest.mark.parametrize("isa", ISAS)
def test_constant(isa: str) -> None:
    value = draw(np.random.default_rng(5), 1, 1, 1, 37)
    target = Buffer(value.shape)
    run(pack("constant", isa, [], target, {}, {"value": value.reshape(-1)}), [], target)
    target.check(value, 0, isa)


@pytest.mark.parametrize("seed", range(4))
def test_concat(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, h, w = shapes(rng)
    parts = [draw(rng, n, h, w, int(c)) for c in rng.integers(1, 40, seed + 1)]
    value = np.concatenate(parts, axis=3)
    for layouts in itertools.product(LAYOUTS, repeat=2):
        sources = [Buffer(p.shape, layouts[0], p) for p in parts]
        target = Buffer(value.shape, layouts[1])
        run(pack("concat", ISAS[-1], sources, target), sources, target)
        target.check(value, 0, layouts)
        longer = np.concatenate([value, np.zeros((n, h, w, seed + 1), np.float32)], axis=3)
        target = Buffer(longer.shape, layouts[1])
        run(pack("concat", ISAS[-1], sources, target, {"zeros": seed + 1}), sources, target)
        target.check(longer, 0, layouts)


@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("isa", ISAS)
def test_layouts(isa: str, channels: int) -> None:
    rng = np.random.default_rng(channels)
    x = draw(rng, *shapes(rng), channels)
    for layout in LAYOUTS:
        for kind, a, b in (("to_nhwc", "nchw", layout), ("to_nchw", layout, "nchw")):
            source, target = Buffer(x.shape, a, x), Buffer(x.shape, b)
            run(pack(kind, isa, [source], target), [source], target)
            target.check(x, 0, (kind, layout))


@pytest.mark.parametrize("channels", [1, 2, 7, 16, 31, 1000])
@pytest.mark.parametrize("isa", ISAS)
def test_softmax(isa: str, channels: int) -> None:
    rng = np.random.default_rng(channels)
    x = draw(rng, *shapes(rng), channels) * 10
    expected = torch.softmax(torch.from_numpy(x).double(), 3).numpy()
    for layout in itertools.product(LAYOUTS, repeat=2):
        source, target = Buffer(x.shape, layout[0], x), Buffer(x.shape, layout[1])
        run(pack("softmax", isa, [source], target), [source], target)
        # x - max rounds once, which exp turns into a relative error of |x - max| eps.
        spread = x.max(axis=3, keepdims=True) - x
        target.check(expected, (8 + spread + channels**0.5) * EPS * expected + 2.0**-120, layout)


def normal(x: np.ndarray, groups: int, epsilon: float) -> tuple[np.ndarray, np.ndarray]:
    """(N, H, W, C) normalised in double precision, and by what it is divided."""
    n, h, w, _ = x.shape
    wide = x.astype(np.float64)
    if groups:
        wide = wide.reshape(n, h * w, groups, -1)
    axes = (1, 3) if groups else (3,)
    centred = wide - wide.mean(axes, keepdims=True)
    divisor = np.sqrt((centred**2).mean(axes, keepdims=True) + epsilon)
    result = centred / divisor
    return result.reshape(x.shape), np.broadcast_to(divisor, wide.shape).reshape(x.shape)


@pytest.mark.parametrize("channels", [1, 3, 8, 15, 16, 33, 96, 130, 300])
@pytest.mark.parametrize("mean", [0.0, 50.0])
def test_normalize(channels: int, mean: float) -> None:
    rng = np.random.default_rng(channels)
    n, h, w = shapes(rng)
    x = (draw(rng, n, h, w, channels) + np.float32(mean)).astype(np.float32)
    scale, shift = draw(rng, channels), draw(rng, channels)
    divisors = [g for g in range(1, channels + 1) if channels % g == 0]
    for groups in {0, 1, channels, int(rng.choice(divisors))}:
        epsilon = float(rng.choice([1e-3, 1e-5]))
        centred, divisor = normal(x, groups, epsilon)
        value = centred * scale + shift
        # x - mean has the roundings of both, which grow with what is taken of their size.
        rounded = 1 + np.abs(value) + np.abs(scale) * np.abs(x).max() / divisor
        tolerance = 8 * EPS * rounded
        for isa, name, layout_in, layout_out in cases(channels):
            source, target = Buffer(x.shape, layout_in, x), Buffer(x.shape, layout_out)
            attributes = {"activation": name, **CLIP, "groups": groups, "epsilon": epsilon}
            arrays = {"scale": scale, "shift": shift}
            run(pack("normalize", isa, [source], target, attributes, arrays), [source], target)
            target.check(activated(value, name), tolerance, (isa, name, groups, layout_in))


def test_normalize_sums_long_rows_in_blocks() -> None:
    x = np.random.default_rng(0).uniform(5, 6, (1, 300, 400, 9)).astype(np.float32)
    arrays = {"scale": np.ones(9, np.float32), "shift": np.zeros(9, np.float32)}
    flat = x.reshape(1, 1, 1, -1)
    ones = {"scale": np.ones(flat.size, np.float32), "shift": np.zeros(flat.size, np.float32)}
    for isa in ISAS:
        for values, groups, tables in ((x, 9, arrays), (x, 1, arrays), (flat, 0, ones)):
            source, target = Buffer(values.shape, "tight", values), Buffer(values.shape, "tight")
            attributes = {"groups": groups, "epsilon": 1e-5}
            run(pack("normalize", isa, [source], target, attributes, tables), [source], target)
            # The mean of a million numbers near 5.5, and their deviation of 0.29.
            target.check(normal(values, groups, 1e-5)[0], 600 * EPS, (isa, groups))


REDUCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "sum": np.sum,
    "mean": np.mean,
    "maximum": np.max,
    "minimum": np.min,
    "product": np.prod,
    "l1": lambda x, axis: np.abs(x).sum(axis),
    "l2": lambda x, axis: np.sqrt((x**2).sum(axis)),
}


def reduced(
    x: np.ndarray, axes: tuple[int, ...], order: tuple[int, ...], isa: str, **attributes: Any
) -> np.ndarray:
    """`reduce` of `x` where its axes lie in memory in the order given."""
    memory = np.ascontiguousarray(x.transpose(order))
    strides = np.array(memory.transpose(np.argsort(order)).strides) // 4
    kept = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    y = np.empty(kept, np.float32)
    arrays = {
        "shape": np.array(x.shape, np.int32),
        "x_strides": strides.astype(np.int32),
        "y_strides": np.where(np.array(kept) == 1, 0, np.array(y.strides) // 4).astype(np.int32),
    }
    descs = [_native.TensorDesc(1, 1, 1, size, size) for size in (x.size, y.size)]
    spec = _native.Spec("reduce", attributes, arrays, descs[:1], descs[1:])
    _native.run_operator(_native.pack(spec, "vector", isa), [memory.reshape(-1)], [y.reshape(-1)])
    return y.reshape([size for axis, size in enumerate(x.shape) if axis not in axes])


STEPS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.rint,
    "truncate": np.trunc,
    "sign": np.sign,
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", STEPS)
def test_steps(isa: str, name: str) -> None:
    rng = np.random.default_rng(len(name))
    x = np.concatenate([rng.uniform(-5, 5, 90), np.arange(-8, 9) / 2, [0.0, -0.0, 3e9, -3e9]])
    x = x.astype(np.float32).reshape(1, 1, 1, -1)
    source, target = Buffer(x.shape, "tight", x), Buffer(x.shape)
    run(pack("activate", isa, [source], target, {"activation": name}), [source], target)
    np.testing.assert_array_equal(target.values, STEPS[name](x), str((isa, name)))


@pytest.mark.parametrize("seed", range(16))
def test_top_k(seed: int) -> None:
    """Against a stable sort, of rows that lie side by side, one after the other, or in between."""
    rng = np.random.default_rng(seed)
    rows, size = int(rng.integers(1, 40)), int(rng.integers(1, 60))
    count, smallest = int(rng.integers(1, size + 1)) if seed % 4 else 1, int(rng.integers(2))
    x = (rng.standard_normal((rows, size)) * 3).round().astype(np.float32)
    if seed % 3 == 0:
        x[0, rng.integers(size)] = np.nan
    keys = np.where(np.isnan(x), np.inf, x if smallest else -x)
    order = np.argsort(keys, axis=1, kind="stable")[:, :count]
    across = seed % 2 == 0
    memory = np.ascontiguousarray(x.T if across else x)
    steps = (rows, 1) if across else (1, size)
    for isa, indices in itertools.product(ISAS, (0, 1)):
        y = np.empty(rows * count, np.float32)
        attributes = {
            **{"size": size, "count": count, "smallest": smallest, "indices": indices},
            **{"x_step": steps[0], "y_step": 1},
        }
        arrays = {
            "shape": np.array([rows], np.int32),
            "x_strides": np.array([steps[1]], np.int32),
            "y_strides": np.array([count], np.int32),
        }
        descs = [_native.TensorDesc(1, 1, 1, n, n) for n in (x.size, y.size)]
        spec = _native.Spec("top_k", attributes, arrays, descs[:1], descs[1:])
        _native.run_operator(_native.pack(spec, "vector", isa), [memory.reshape(-1)], [y])
        want = order if indices else np.take_along_axis(x, order, 1)
        np.testing.assert_array_equal(y.reshape(rows, count), want, str((seed, isa, x.shape)))


COMPARISONS: dict[str, Callable[..., np.ndarray]] = {
    "equal": np.equal,
    "greater": np.greater,
    "greater_equal": np.greater_equal,
    "select": lambda a, b, c: np.where(a != 0, b, c),
}


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("function", COMPARISONS)
def test_comparisons(isa: str, function: str) -> None:
    rng = np.random.default_rng(len(function))
    count = 3 if function == "select" else 2
    values = [rng.integers(-2, 3, (7, 19)).astype(np.float32) for _ in range(count)]
    values[0][2, 3:5] = np.nan
    y = np.empty((7, 19), np.float32)
    strides = np.array([19, 1], np.int32)
    arrays = {f"{name}_strides": strides for name in "yabc"[: count + 1]}
    arrays["shape"] = np.array([7, 19], np.int32)
    desc = _native.TensorDesc(1, 1, 1, y.size, y.size)
    spec = _native.Spec("combine", {"function": function}, arrays, [desc] * count, [desc])
    _native.run_operator(
        _native.pack(spec, "vector", isa), [v.reshape(-1) for v in values], [y.reshape(-1)]
    )
    np.testing.assert_array_equal(y, COMPARISONS[function](*values), isa)


@pytest.mark.parametrize("function", REDUCTIONS)
@pytest.mark.parametrize("seed", range(12))
def test_reduce(function: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rank = int(rng.integers(1, 6))
    x = rng.uniform(-1.5, 1.5, [int(s) for s in rng.integers(1, 8, rank)]).astype(np.float32)
    if seed % 3 == 0:
        x = np.concatenate([x] * 90, axis=int(rng.integers(rank)))
    axes = tuple(int(a) for a in rng.permutation(rank)[: rng.integers(1, rank + 1)])
    order = tuple(int(a) for a in rng.permutation(rank))
    expected = REDUCTIONS[function](x.astype(np.float64), axis=axes)
    for isa in ISAS:
        got = reduced(x, axes, order, isa, function=function)
        # Sums and products are of double precision, so that only the result is rounded.
        np.testing.assert_allclose(
            got,
            expected,
            rtol=EPS,
            atol=1e-12 * x.size,
            err_msg=f"{seed} {x.shape} {axes} {order} {isa}",
        )
        active = reduced(x, axes, order, isa, function=function, activation="relu")
        np.testing.assert_allclose(active, np.maximum(expected, 0), rtol=EPS, atol=1e-12 * x.size)


def pool_oracle(x: np.ndarray, average: bool, g: dict[str, int]) -> np.ndarray:
    """The definition, window by window, in double precision."""
    n, h, w, c = x.shape
    pads = ((0, 0), (g["pad_top"], g["pad_bottom"]), (g["pad_left"], g["pad_right"]), (0, 0))
    fill = 0.0 if average else -np.inf
    padded = np.pad(x.astype(np.float64), pads, constant_values=fill)
    inside = np.pad(np.ones((1, h, w, 1)), pads, constant_values=g.get("count_include_pad", 0))
    reach_h, reach_w = (g["kernel_h"] - 1) * g["dilation_h"], (g["kernel_w"] - 1) * g["dilation_w"]
    oh = (padded.shape[1] - reach_h - 1) // g["stride_h"] + 1
    ow = (padded.shape[2] - reach_w - 1) // g["stride_w"] + 1
    y = np.empty((n, oh, ow, c))
    for i, j in itertools.product(range(oh), range(ow)):
        top, left = i * g["stride_h"], j * g["stride_w"]
        rows = slice(top, top + reach_h + 1, g["dilation_h"])
        columns = slice(left, left + reach_w + 1, g["dilation_w"])
        window = padded[:, rows, columns]
        y[:, i, j] = (
            window.sum((1, 2)) / inside[:, rows, columns].sum() if average else window.max((1, 2))
        )
    return y


@pytest.mark.parametrize("seed", range(40))
def test_pool(seed: int) -> None:
    rng = np.random.default_rng(seed)
    average = bool(seed % 2)
    kernel_h, kernel_w = (int(k) for k in rng.integers(1, 5, 2))
    geometry = {
        "kernel_h": kernel_h,
        "kernel_w": kernel_w,
        "stride_h": int(rng.integers(1, 4)),
        "stride_w": int(rng.integers(1, 4)),
        "dilation_h": 1 if average else int(rng.integers(1, 3)),
        "dilation_w": 1 if average else int(rng.integers(1, 3)),
        "pad_top": int(rng.integers(0, kernel_h)),
        "pad_bottom": int(rng.integers(0, kernel_h)),
        "pad_left": int(rng.integers(0, kernel_w)),
        "pad_right": int(rng.integers(0, kernel_w)),
    }
    if average:
        geometry["count_include_pad"] = int(rng.integers(0, 2))
    n, c = int(rng.integers(1, 3)), int(rng.integers(1, 131))
    x = draw(rng, n, int(rng.integers(9, 24)), int(rng.integers(9, 24)), c)
    value = pool_oracle(x, average, geometry)
    kind = "average_pool" if average else "max_pool"
    for isa, name, layout_in, layout_out in cases(seed):
        source, target = Buffer(x.shape, layout_in, x), Buffer(value.shape, layout_out)
        attributes = {"activation": name, **CLIP, **geometry}
        run(pack(kind, isa, [source], target, attributes), [source], target)
        tolerance = (8 + kernel_h * kernel_w) * EPS * (1 + np.abs(x).max())
        target.check(activated(value, name), tolerance, (isa, name, c, geometry))


@pytest.mark.parametrize("include_pad", [False, True])
def test_pool_with_a_rounded_up_size_equals_torch(include_pad: bool) -> None:
    x = draw(np.random.default_rng(0), 1, 12, 12, 20)
    planes = torch.from_numpy(x).permute(0, 3, 1, 2)
    pads = dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), 1)
    window = {"kernel_h": 3, "kernel_w": 3, "stride_h": 2, "stride_w": 2, **pads}
    for kind, y in (
        ("max_pool", functional.max_pool2d(planes, 3, 2, 1, ceil_mode=True)),
        (
            "average_pool",
            functional.avg_pool2d(planes, 3, 2, 1, ceil_mode=True, count_include_pad=include_pad),
        ),
    ):
        expected = y.permute(0, 2, 3, 1).numpy()
        for isa in ISAS:
            source, target = Buffer(x.shape, "tight", x), Buffer(expected.shape)
            attributes = {**window, "count_include_pad": int(include_pad)}
            run(pack(kind, isa, [source], target, attributes), [source], target)
            target.check(expected, 12 * EPS * np.abs(x).max(), (kind, isa))


@pytest.mark.parametrize("channels", [*CHANNELS, 512, 1280])
def test_global_average_pool(channels: int) -> None:
    rng = np.random.default_rng(channels)
    n, h, w = shapes(rng)
    x = draw(rng, n, h, w, channels)
    value = x.astype(np.float64).mean((1, 2), keepdims=True)
    for isa, name, layout_in, layout_out in cases(0):
        source, target = Buffer(x.shape, layout_in, x), Buffer(value.shape, layout_out)
        attributes = {"activation": name, **CLIP}
        run(pack("global_average_pool", isa, [source], target, attributes), [source], target)
        tolerance = (8 + h * w) * EPS * (1 + np.abs(x).max())
        target.check(activated(value, name), tolerance, (isa, name))


def test_large_maps_are_averaged_within_the_roundings_of_a_row_and_a_column() -> None:
    h, w, channels = 240, 310, 21
    x = np.random.default_rng(7).uniform(0, 6, (1, h, w, channels)).astype(np.float32)
    value = x.astype(np.float64).mean((1, 2), keepdims=True)
    for isa in ISAS:
        source, target = Buffer(x.shape, "padded", x), Buffer(value.shape)
        run(pack("global_average_pool", isa, [source], target, {}), [source], target)
        target.check(value, (h + w + 2) * EPS * np.abs(x).mean(), isa)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_split_the_work(threads: int) -> None:
    """A chain of all kinds in one executor, large enough for many tasks each."""
    rng = np.random.default_rng(threads)
    n, h, w, c = 2, 31, 37, 40
    x = draw(rng, n, c, h, w)
    mask = (rng.random((h, w)) < 0.5).astype(np.uint8)
    isa = ISAS[-1]
    image, pixels, small = (
        Buffer((n, h, w, c), "nchw"),
        Buffer((n, h, w, c), "padded"),
        Buffer((n, 16, 19, c), "padded"),
    )
    pool = {"kernel_h": 3, "kernel_w": 3, "stride_h": 2, "stride_w": 2}
    pool |= dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), 1)
    out, vector = Buffer((n, 16, 19, c), "nchw"), Buffer((n, 1, 1, c), "padded")
    steps = [
        (pack("to_nhwc", isa, [image], pixels), [0], [1]),
        (pack("mask_multiply", isa, [pixels], pixels, {}, {"mask": mask}), [1], [2]),
        (pack("add", isa, [pixels, pixels], pixels, {"activation": "silu"}), [1, 2], [3]),
        (pack("max_pool", isa, [pixels], small, pool), [3], [4]),
        (pack("global_average_pool", isa, [small], vector), [4], [5]),
        (pack("mul", isa, [small, vector], small), [4, 5], [6]),
        (pack("to_nchw", isa, [small], out), [6], [7]),
    ]
    tensors, offset = [(image.desc, -1)], 0
    for buffer in (pixels, pixels, pixels, small, vector, small):
        tensors.append((buffer.desc, offset))
        offset += -(-buffer.desc.extent // 16) * 64
    tensors.append((out.desc, -1))
    executor = _native.Executor(tensors, steps, [0], [7], offset, threads)
    t = torch.from_numpy(x).double()
    t = functional.silu(t + t * torch.from_numpy(mask))
    t = functional.max_pool2d(t, 3, 2, 1)
    expected = (t * t.mean((2, 3), keepdim=True)).numpy()
    for _ in range(20):
        y = np.full(expected.shape, np.nan, np.float32)
        executor.run([x], [y])
        np.testing.assert_allclose(y, expected, rtol=0, atol=400 * EPS * np.abs(x).max())


def test_every_kind_has_a_reference() -> None:
    a, b = Buffer((1, 4, 4, 8), values=np.ones((1, 4, 4, 8))), Buffer((1, 4, 4, 8))
    for kind in ("add", "mul"):
        packed = pack(kind, ISAS[-1], [a, a], b, algorithm="reference")
        run(packed, [a, a], b)
        assert packed.kernel == "scalar"
        b.check(np.full((1, 4, 4, 8), 2.0 if kind == "add" else 1.0), 0, kind)


def test_bad_specs_are_clear_errors() -> None:
    a, b, c = Buffer((1, 4, 4, 8)), Buffer((1, 4, 4, 6)), Buffer((1, 2, 2, 8))

    def refused(match: str, *args: Any) -> None:
        with pytest.raises(ActivsparseError, match=match):
            pack(args[0], ISAS[-1], *args[1:])

    refused("add: takes 2 input", "add", [a], a)
    refused("add: an input is neither", "add", [a, b], a)
    refused("add: an input is neither", "add", [a, c], a)
    refused("activate: input and output differ", "activate", [a], b)
    refused("unknown activation", "activate", [a], a, {"activation": "wave"})
    refused("scale must be", "scale_shift", [a], a)
    refused("slope must be", "prelu", [a], a)
    slopes = {"slope": np.ones(8, np.float32)}
    refused("operator of its own", "prelu", [a], a, {"activation": "relu"}, slopes)
    refused("mask must be", "mask_multiply", [a], a, {}, {"mask": np.ones((2, 2), np.uint8)})
    refused("outside", "gather_positions", [a], a, {}, {"source": np.full(16, 16, np.int32)})
    refused("one pixel", "constant", [], a, {}, {"value": np.ones(128, np.float32)})
    refused("as many elements", "constant", [], Buffer((1, 1, 1, 8)))
    refused("do not add up", "concat", [a, b], a)
    refused("do not add up", "concat", [a], a, {"zeros": 1})
    refused("do not add up", "concat", [a, a], a, {"zeros": -8})
    refused("times the scales", "resize_nearest", [a], c, {"scale_h": 2})
    refused("must be positive", "max_pool", [a], a)
    refused("outside of the input", "max_pool", [c], a, {"kernel_h": 2, "kernel_w": 2})
    refused("one pixel", "global_average_pool", [a], a)
    refused("groups must divide", "normalize", [a], a, {"groups": 3})
    refused("scale must be", "normalize", [a], a)
    refused("must not be negative", "normalize", [a], a, {"epsilon": -1.0})
    refused("shape must be", "reduce", [a], a, {"function": "sum"})
    refused("shape must be", "top_k", [a], a)
    refused("unknown function", "reduce", [a], a, {"function": "median"})
    refused("NCHW", "add", [a, Buffer((1, 4, 4, 8), "nchw")], a)
    refused("not NCHW", "to_nhwc", [a], a)


def test_views_stay_within_their_tensors() -> None:
    x = _native.TensorDesc(1, 1, 1, 24, 24)
    arrays = {
        "shape": np.array([2, 3], np.int32),
        "x_strides": np.array([12, 4], np.int32),
        "y_strides": np.array([3, 1], np.int32),
    }
    for offset in (3, 4):  # the last element is 12 + 2 * 4 behind the first
        spec = _native.Spec("map", {"x_offset": offset}, arrays, [x], [x])
        if offset == 3:
            assert _native.pack(spec, "vector", ISAS[0]).nbytes > 0
        else:
            with pytest.raises(ActivsparseError, match="view x leaves its tensor"):
                _native.pack(spec, "vector", ISAS[0])
