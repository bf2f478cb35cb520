"""Operators on uint8 against integer arithmetic in numpy, on every instruction set and feature."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from helpers import THREADS

from activsparse import _native

Array = npt.NDArray[Any]

VARIANTS = [
    (isa, features)
    for isa in _native.available_isas()
    for features in ("all", "none")
    if features == "none" or isa != "scalar"
]


@pytest.fixture(params=VARIANTS, ids=lambda v: f"{v[0]}-{v[1]}")
def isa(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    name, features = request.param
    monkeypatch.setenv("ACTIVSPARSE_FEATURES", features)
    return str(name)


def desc(shape: tuple[int, ...], dtype: str = "uint8", gap: int = 0) -> _native.TensorDesc:
    """(N, H, W, C) in memory as the compiler lays it out, or as part of a wider tensor."""
    n, h, w, c = shape
    return _native.TensorDesc(n, h, w, c, -(-c // 16) * 16 + gap, padded=True, dtype=dtype)


def place(x: Array, d: _native.TensorDesc, rng: np.random.Generator) -> Array:
    """The values in memory, garbage between them."""
    whole = rng.integers(0, 256, (d.n, d.h, d.w, d.stride)).astype(x.dtype)
    whole[..., : d.c] = x
    return whole


def run(
    kind: str,
    algorithm: str,
    isa: str,
    inputs: list[tuple[Array, _native.TensorDesc]],
    out: _native.TensorDesc,
    attributes: dict[str, Any],
    arrays: dict[str, Array],
    threads: int = 1,
) -> Array:
    rng = np.random.default_rng(0)
    spec = _native.Spec(kind, attributes, arrays, [d for _, d in inputs], [out])
    spec.threads = threads
    packed = _native.pack(spec, algorithm, isa)
    y = rng.integers(0, 256, (out.n, out.h, out.w, out.stride)).astype(out.dtype)
    before = y.copy()
    _native.run_operator(packed, [place(x, d, rng) for x, d in inputs], [y])
    owned = -(-out.c // 16) * 16 if out.padded else out.c
    np.testing.assert_array_equal(y[..., owned:], before[..., owned:])
    return y[..., : out.c]


def rounded(v: Array, zero: int, lo: float, hi: float) -> Array:
    f = np.float32
    return np.asarray(np.rint(np.clip(v, f(lo), f(hi))) + zero)


def sums_of(x: Array, zero: int, w: Array, a: dict[str, int]) -> Array:
    """Exact convolution of (x - zero), NHWC, by (O, I/group, KH, KW)."""
    n = len(x)
    o, i, kh, kw = w.shape
    pads = ((0, 0), (a["pad_top"], a["pad_bottom"]), (a["pad_left"], a["pad_right"]), (0, 0))
    padded = np.pad(x.astype(np.int64) - zero, pads)
    oh = (padded.shape[1] - a["dilation_h"] * (kh - 1) - 1) // a["stride_h"] + 1
    ow = (padded.shape[2] - a["dilation_w"] * (kw - 1) - 1) // a["stride_w"] + 1
    y = np.zeros((n, oh, ow, o), np.int64)
    per = o // a["group"]
    for ky, kx in itertools.product(range(kh), range(kw)):
        top, left = ky * a["dilation_h"], kx * a["dilation_w"]
        rows = slice(top, top + (oh - 1) * a["stride_h"] + 1, a["stride_h"])
        columns = slice(left, left + (ow - 1) * a["stride_w"] + 1, a["stride_w"])
        for g in range(a["group"]):
            taken = padded[:, rows, columns, g * i : (g + 1) * i]
            block = slice(g * per, (g + 1) * per)
            y[..., block] += taken @ w[block, :, ky, kx].astype(np.int64).T
    return y


def random_conv(rng: np.random.Generator, depthwise: bool) -> dict[str, Any]:
    kh, kw = (int(k) for k in rng.choice([1, 2, 3, 5, 7], 2))
    a = {
        "stride_h": int(rng.integers(1, 3)),
        "stride_w": int(rng.integers(1, 3)),
        "dilation_h": int(rng.integers(1, 3)),
        "dilation_w": int(rng.integers(1, 3)),
    }
    for side, k in (("top", kh), ("bottom", kh), ("left", kw), ("right", kw)):
        a[f"pad_{side}"] = int(rng.integers(0, k))
    h = a["dilation_h"] * (kh - 1) + int(rng.integers(1, 12))
    w = a["dilation_w"] * (kw - 1) + int(rng.integers(1, 12))
    if depthwise:
        c = int(rng.integers(1, 150))
        return {"x": (2, h, w, c), "weight": (c, 1, kh, kw), "attributes": {**a, "group": c}}
    group = int(rng.choice([1, 1, 1, 2, 3]))
    i, o = (int(n) for n in rng.integers(1, 70, 2))
    return {
        "x": (2, h, w, i * group),
        "weight": (o * group, i, kh, kw),
        "attributes": {**a, "group": group},
    }


@pytest.mark.parametrize("seed", range(60))
def test_convolution(isa: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    depthwise = seed % 3 == 2
    case = random_conv(rng, depthwise)
    what = f"seed {seed}: {case}"
    attributes = dict(case["attributes"])
    extremes = seed % 2 == 0  # saturates what sums in 16 bits
    shape = case["x"]
    x = rng.choice([0, 255], shape) if extremes else rng.integers(0, 256, shape)
    x = x.astype(np.uint8)
    w = rng.choice([-128, 127], case["weight"]) if extremes else None
    w = (rng.integers(-128, 128, case["weight"]) if w is None else w).astype(np.int8)
    o = w.shape[0]
    zx, zy = (int(z) for z in rng.choice([0, 255, 128, int(rng.integers(256))], 2))
    bias = rng.integers(-10000, 10000, o).astype(np.int32)
    sums = sums_of(x, zx, w, attributes) + bias
    n, oh, ow, _ = sums.shape
    scale = (rng.uniform(0.3, 2, o) * 128 / max(1.0, float(np.abs(sums).mean()))).astype(np.float32)
    shift = (rng.integers(0, 2, o) * rng.uniform(-0.4, 0.4, o)).astype(np.float32)
    arrays: dict[str, Array] = {"weight": w, "bias": bias, "scale": scale, "shift": shift}
    attributes |= {"input_zero": zx, "zero": zy}
    lo, hi = float(-zy), float(255 - zy)
    if rng.random() < 0.5:  # relu6, of any scale
        lo, hi = 0.0, min(hi, float(rng.integers(0, 100)))
        attributes |= {"lo": lo, "hi": hi}
    # In double precision: float32 factors and sums may round to another side of a half.
    exact = sums * scale.astype(np.float64) + shift
    unsure = np.abs(exact - np.floor(exact) - 0.5) < 1e-3
    y = rounded(exact, 0, lo, hi)
    inputs = [(x, desc(shape, gap=16 * int(rng.integers(2))))]
    mask = (rng.random((oh, ow)) < rng.choice([0.1, 0.5, 0.9])).astype(np.uint8)
    if rng.random() < 0.6:
        arrays["mask"] = mask
        y = y * mask[..., None]
        unsure = unsure & (mask[..., None] != 0)
    residual = not depthwise and rng.random() < 0.4
    if residual:
        r, zr = rng.integers(0, 256, y.shape).astype(np.uint8), int(rng.integers(256))
        kept, residual_scale = 0.75, 0.5  # exact, so that ties are
        attributes |= {"kept": kept, "residual_scale": residual_scale, "residual_zero": zr}
        y = y * np.float32(kept) + (r.astype(np.float32) - zr) * np.float32(residual_scale)
        y = rounded(y, 0, -zy, 255 - zy)
        inputs.append((r, desc(r.shape)))
    elif "mask" in arrays and mask.any() and rng.random() < 0.5:
        kept_positions = np.flatnonzero(mask)
        source = np.where(
            mask.reshape(-1), np.arange(mask.size), rng.choice(kept_positions, mask.size)
        )
        arrays["source"] = source.astype(np.int32)
        y, unsure = (v.reshape(n, -1, o)[:, source].reshape(v.shape) for v in (y, unsure))
    expected = (y + zy).astype(np.uint8)
    out = desc(expected.shape, gap=16 * int(rng.integers(2)))
    algorithms = ["direct", "depthwise"] if depthwise else ["direct"]
    k = int(case["weight"][3])
    if depthwise and k > 1 and attributes["dilation_h"] == attributes["dilation_w"] == 1:
        algorithms.append("depthwise_columns")
    for algorithm in algorithms:
        threads = THREADS[seed % len(THREADS)]
        got = run("conv_u8", algorithm, isa, inputs, out, attributes, arrays, threads)
        got = np.where(unsure & (np.abs(got.astype(int) - expected) <= 1), expected, got)
        np.testing.assert_array_equal(got, expected, err_msg=f"{what} {algorithm}")


@pytest.mark.parametrize("seed", range(12))
def test_table_behind_a_convolution(isa: str, seed: int) -> None:
    """Every result, and what a skipped position holds, is what the table has for it."""
    rng = np.random.default_rng(seed)
    case = random_conv(rng, depthwise=False)
    shape, attributes = case["x"], {**case["attributes"], "zero": int(rng.integers(256))}
    x = rng.integers(0, 256, shape).astype(np.uint8)
    w = rng.integers(-128, 128, case["weight"]).astype(np.int8)
    o = w.shape[0]
    sums = sums_of(x, 0, w, attributes)
    scale = np.full(o, 60 / max(1.0, float(np.abs(sums).max())), np.float32)
    arrays: dict[str, Array] = {"weight": w, "scale": scale}
    positions = sums.shape[1:3]
    if seed % 3:
        arrays["mask"] = mask = (rng.random(positions) < 0.6).astype(np.uint8)
        mask[0, 0] = 1
        if seed % 3 == 2:
            own = np.arange(mask.size)
            other = rng.choice(np.flatnonzero(mask), mask.size)
            arrays["source"] = np.where(mask.reshape(-1), own, other).astype(np.int32)
    if rng.random() < 0.3:
        attributes |= {"rescaled": 1, "kept": 0.7, "residual_lo": -9.0 * (attributes["zero"] > 8)}
    table = rng.integers(0, 256, 256).astype(np.uint8)
    inputs, out = [(x, desc(shape))], desc(sums.shape, gap=16 * (seed % 2))
    plain = run("conv_u8", "direct", isa, inputs, out, attributes, arrays)
    arrays["table"] = table
    threads = THREADS[seed % len(THREADS)]
    got = run("conv_u8", "direct", isa, inputs, out, attributes, arrays, threads)
    np.testing.assert_array_equal(got, table[plain], err_msg=f"seed {seed}: {case}")


@pytest.mark.parametrize("seed", range(8))
def test_known_zeros_of_the_input_are_left_out(isa: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    zx = int(rng.integers(256))
    shape = (1, 9, 11, int(rng.integers(1, 40)))
    live = (np.add.outer(np.arange(9), 2 * np.arange(11)) % 3 > 0).astype(np.uint8)
    x = np.where(live[..., None], rng.integers(0, 256, shape), zx).astype(np.uint8)
    w = rng.integers(-128, 128, (20, shape[3], 3, 3)).astype(np.int8)
    geometry = dict.fromkeys(("stride_h", "stride_w", "dilation_h", "dilation_w", "group"), 1)
    geometry |= dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), 1)
    sums = sums_of(x, zx, w, geometry)
    scale = np.full(20, 1e-3, np.float32)
    expected = (rounded(sums.astype(np.float32) * scale, 0, -100, 155) + 100).astype(np.uint8)
    arrays = {"weight": w, "scale": scale, "mask": live, "input_mask": live}
    expected = np.where(live[..., None], expected, 100).astype(np.uint8)
    attributes = {**geometry, "input_zero": zx, "zero": 100}
    got = run(
        "conv_u8", "direct", isa, [(x, desc(shape))], desc(expected.shape), attributes, arrays
    )
    np.testing.assert_array_equal(got, expected, err_msg=f"seed {seed}, shape {shape}")


@pytest.mark.parametrize("seed", range(24))
def test_unwritten_positions_of_the_input_stand_for_its_zero_point(isa: str, seed: int) -> None:
    """They hold anything, whatever the classes of taps, and nothing is written for skipped ones."""
    rng = np.random.default_rng(seed)
    case = random_conv(rng, depthwise=seed % 2 == 1)
    shape, attributes = case["x"], {**case["attributes"], "zero": 100}
    live = (rng.random(shape[1:3]) < rng.choice([0.3, 0.8])).astype(np.uint8)
    if seed % 3 == 0:  # few classes, as of a lattice
        live = (np.add.outer(np.arange(shape[1]), np.arange(shape[2])) % 2).astype(np.uint8)
    zx = int(rng.integers(256))
    x = rng.integers(0, 256, shape).astype(np.uint8)
    w = rng.integers(-128, 128, case["weight"]).astype(np.int8)
    sums = sums_of(np.where(live[..., None], x, zx), zx, w, attributes)
    scale = np.full(w.shape[0], 2.0**-10, np.float32)
    expected = rounded(sums * 2.0**-10, 0, -100, 155) + 100
    mask = (rng.random(sums.shape[1:3]) < 0.7).astype(np.uint8)
    source = np.where(mask.reshape(-1), np.arange(mask.size), -1).astype(np.int32)
    arrays = {"weight": w, "scale": scale, "input_mask": live, "mask": mask, "source": source}
    attributes |= {"input_zero": zx, "input_unwritten": 1}
    algorithms = ["direct", "depthwise"] if seed % 2 else ["direct"]
    if seed % 2 and w.shape[3] > 1 and attributes["dilation_h"] == attributes["dilation_w"] == 1:
        algorithms.append("depthwise_columns")
    kept = np.broadcast_to(mask[..., None] != 0, expected.shape)
    for algorithm in algorithms:
        out = desc(expected.shape)
        got = run("conv_u8", algorithm, isa, [(x, desc(shape))], out, attributes, arrays)
        np.testing.assert_array_equal(
            got[kept], expected[kept], err_msg=f"{seed} {algorithm} {case}"
        )


@pytest.mark.parametrize("seed", range(12))
def test_first_convolution_of_a_framed_image(isa: str, seed: int) -> None:
    """Float32, planes or pixels, quantised into a frame of zero points, four bytes to a pixel."""
    rng = np.random.default_rng(seed)
    c, o, kernel = int(rng.integers(1, 5)), int(rng.integers(1, 80)), int(rng.choice([2, 3, 5, 7]))
    n, h, w = 2, int(rng.integers(kernel, 20)), int(rng.integers(kernel, 40))
    top, left, bottom, right = (int(p) for p in rng.integers(0, kernel, 4))
    zero, scale = int(rng.integers(256)), 0.02
    x = rng.standard_normal((n, c, h, w)).astype(np.float32)
    framed = _native.TensorDesc(n, h + top + bottom, w + left + right, c, 4, dtype="uint8")
    frame: dict[str, Any] = {"zero": zero, "pad_top": top, "pad_left": left}
    image = rng.integers(0, 256, (n, framed.h, framed.w, 4)).astype(np.uint8)
    given = _native.TensorDesc(n, h, w, c, c, nchw=bool(seed % 2))
    spec = _native.Spec("quantise", {**frame, "a_scale": 1 / scale}, {}, [given], [framed])
    pixels = np.ascontiguousarray(x if seed % 2 else x.transpose(0, 2, 3, 1))
    _native.run_operator(_native.pack(spec, "vector", isa), [pixels], [image])
    steps = np.clip(np.rint(x * np.float32(1 / scale)), -zero, 255 - zero) + zero
    pads = ((0, 0), (top, bottom), (left, right), (0, 0))
    q = np.pad(steps.transpose(0, 2, 3, 1), pads, constant_values=zero).astype(np.uint8)
    what = f"seed {seed}: {x.shape}, kernel {kernel}, pads {pads}"
    np.testing.assert_array_equal(image[..., :c], q, err_msg=what)
    # And of bytes by a table, as what LiteRT gives comes.
    table = rng.integers(0, 256, 256).astype(np.uint8)
    bytes_of = rng.integers(0, 256, (n, h, w, c)).astype(np.uint8)
    given, other = _native.TensorDesc(n, h, w, c, c, dtype="uint8"), np.empty_like(image)
    spec = _native.Spec("lookup_u8", frame, {"table": table}, [given], [framed])
    _native.run_operator(_native.pack(spec, "vector", isa), [bytes_of], [other])
    looked_up = np.pad(table[bytes_of], pads, constant_values=zero)
    np.testing.assert_array_equal(other[..., :c], looked_up, err_msg=what)

    geometry = dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), 0)
    stride, dilation = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    geometry |= {"stride_h": stride, "stride_w": stride, "dilation_h": 1, "dilation_w": 1}
    if dilation * (kernel - 1) < framed.h:
        geometry["dilation_h"] = dilation
    geometry["group"] = 1
    weight = rng.integers(-128, 128, (o, c, kernel, kernel)).astype(np.int8)
    sums = sums_of(q, zero, weight, geometry)
    arrays = {"weight": weight, "scale": np.full(o, 2.0**-10, np.float32)}
    if rng.random() < 0.5:
        arrays["mask"] = (rng.random(sums.shape[1:3]) < 0.5).astype(np.uint8)
        sums = sums * arrays["mask"][..., None]
    expected = rounded(sums * 2.0**-10, 0, -90, 165) + 90
    out = desc(expected.shape)
    y = np.zeros((out.n, out.h, out.w, out.stride), np.uint8)
    spec = _native.Spec(
        "conv_u8", {**geometry, "input_zero": zero, "zero": 90}, arrays, [framed], [out]
    )
    _native.run_operator(_native.pack(spec, "direct", isa), [image], [y])
    np.testing.assert_array_equal(y[..., :o], expected, err_msg=f"{what} {geometry}")


@pytest.mark.parametrize("seed", range(6))
def test_maps(isa: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = (2, int(rng.integers(1, 9)), int(rng.integers(1, 9)), int(rng.integers(1, 70)))
    what = f"seed {seed}: {shape}"
    a, b = (rng.integers(0, 256, shape).astype(np.uint8) for _ in range(2))
    za, zb, zero = (int(z) for z in rng.integers(0, 256, 3))
    d, out = desc(shape, gap=16 * (seed % 2)), desc(shape)
    zeros = {"a_zero": za, "b_zero": zb, "zero": zero}

    got = run(
        "dequantise", "vector", isa, [(a, d)], desc(shape, "float32"), {**zeros, "a_scale": 0.5}, {}
    )
    np.testing.assert_array_equal(got, (a.astype(np.float32) - za) / 2, err_msg=what)
    x = rng.uniform(-300, 300, shape).astype(np.float32)
    inputs = [(x, desc(shape, "float32"))]
    got = run("quantise", "vector", isa, inputs, out, {"a_scale": 0.5, "zero": zero}, {})
    np.testing.assert_array_equal(got, rounded(x / 2, zero, -zero, 255 - zero), err_msg=what)

    scales = {"a_scale": 0.5, "b_scale": 0.25}
    got = run("add_u8", "vector", isa, [(a, d), (b, d)], out, {**zeros, **scales}, {})
    expected = (a.astype(float) - za) / 2 + (b.astype(float) - zb) / 4
    np.testing.assert_array_equal(got, rounded(expected, zero, -zero, 255 - zero), err_msg=what)
    for other in (b, b[:, :1, :1]):
        inputs = [(a, d), (other, desc(other.shape))]
        got = run("mul_u8", "vector", isa, inputs, out, {**zeros, "a_scale": 2.0**-7}, {})
        expected = (a.astype(float) - za) * (other.astype(float) - zb) / 128
        np.testing.assert_array_equal(got, rounded(expected, zero, -zero, 255 - zero), err_msg=what)

    table = rng.integers(0, 256, 256).astype(np.uint8)
    got = run("lookup_u8", "vector", isa, [(a, d)], out, {}, {"table": table})
    np.testing.assert_array_equal(got, table[a], err_msg=what)
    parts = [(a, d), (b[..., : 1 + seed], desc((*shape[:3], min(1 + seed, shape[3]))))]
    expected = np.concatenate([part for part, _ in parts], 3)
    got = run("concat", "vector", isa, parts, desc(expected.shape), {}, {})
    np.testing.assert_array_equal(got, expected, err_msg=what)
    taller = (2, shape[1] + 1, *shape[2:])
    source = rng.integers(-1, shape[1] * shape[2], taller[1] * taller[2]).astype(np.int32)
    got = run(
        "gather_u8", "vector", isa, [(a, d)], desc(taller), {"zero": zero}, {"source": source}
    )
    flat = a.reshape(2, -1, shape[3])
    expected = np.where(source[None, :, None] < 0, zero, flat[:, source]).reshape(taller)
    np.testing.assert_array_equal(got, expected, err_msg=what)


@pytest.mark.parametrize("seed", range(4))
def test_a_long_vector_is_cut_for_all_threads(isa: str, seed: int) -> None:
    """What is flattened has one position: its work is cut between its channels."""
    rng = np.random.default_rng(seed)
    shape = (1, 1, 1, int(rng.integers(40_000, 80_000)))
    x = rng.uniform(-300, 300, shape).astype(np.float32)
    q = rng.integers(0, 256, shape).astype(np.uint8)
    table = rng.integers(0, 256, 256).astype(np.uint8)
    floats, out = desc(shape, "float32"), desc(shape)
    for kind, inputs, to, attributes, arrays, expected in [
        ("quantise", [(x, floats)], out, {"a_scale": 0.5}, {}, rounded(x / 2, 0, 0, 255)),
        ("dequantise", [(q, out)], floats, {"a_scale": 0.5}, {}, q.astype(np.float32) / 2),
        ("lookup_u8", [(q, out)], out, {}, {"table": table}, table[q]),
    ]:
        got = run(kind, "vector", isa, inputs, to, attributes, arrays, threads=4)
        np.testing.assert_array_equal(got, expected, err_msg=f"seed {seed}: {kind} {shape}")
        spec = _native.Spec(kind, attributes, arrays, [d for _, d in inputs], [to])
        spec.threads = 4
        assert _native.pack(spec, "vector", isa).longest_share(4) <= 1.25, (seed, kind, shape)


@pytest.mark.parametrize("seed", range(8))
def test_pools(isa: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    kernel, stride = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    shape = (2, *(int(s) for s in rng.integers(kernel, 9, 2)), int(rng.integers(1, 70)))
    pad = int(rng.integers(0, kernel))
    a = rng.integers(0, 256, shape).astype(np.uint8)
    za, zero = (int(z) for z in rng.integers(0, 256, 2))
    window = {"kernel_h": kernel, "kernel_w": kernel, "stride_h": stride, "stride_w": stride}
    window |= dict.fromkeys(("pad_top", "pad_left", "pad_bottom", "pad_right"), pad)
    pads = ((0, 0), (pad, pad), (pad, pad), (0, 0))
    wide = np.lib.stride_tricks.sliding_window_view
    # (N, OH, OW, C, KH, KW)
    least = wide(np.pad(a.astype(int), pads, constant_values=-1), (kernel, kernel), (1, 2))
    least = least[:, ::stride, ::stride]
    what = f"seed {seed}: {shape} {window}"
    out = desc(least.shape[:4])
    got = run("max_pool_u8", "vector", isa, [(a, desc(shape))], out, window, {})
    np.testing.assert_array_equal(got, least.max((4, 5)), err_msg=what)
    inside = (least >= 0).sum((4, 5))
    mean = np.where(least >= 0, least - za, 0).sum((4, 5)) * 0.75 / inside
    scales = {"scale": 0.75, "input_zero": za, "zero": zero}
    got = run("average_pool_u8", "vector", isa, [(a, desc(shape))], out, {**window, **scales}, {})
    expected = rounded(mean, zero, -zero, 255 - zero)
    unsure = (np.abs(mean - np.floor(mean) - 0.5) < 1e-4) & (np.abs(got - expected) <= 1)
    np.testing.assert_array_equal(np.where(unsure, expected, got), expected, err_msg=what)
