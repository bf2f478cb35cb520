"""Quantised networks of every style: between what exact arithmetic allows, and on bytes."""

from __future__ import annotations

from pathlib import Path

import graphs
import numpy as np
import onnx
import pytest
import quantised
from onnx import parser
from oracle import expected

from activsparse import Session, _native, quantize
from activsparse.engine.compile import compile_model
from activsparse.engine.exact import ExactModel
from activsparse.engine.verify import compare_with_onnxruntime

SLACK = 2.0**-9
"""Steps that the engine's float32 factors may be off before a rounding."""


def outside(path: Path, session: Session, seed: int) -> str:
    """What of the session's results no rounding of exact sums leads to; '' if nothing."""
    (feed,) = quantised.images(onnx.load(path), seed, 1)
    exact = ExactModel(path).run(feed, slack=SLACK)
    for (name, span), result in zip(exact.items(), session.run(feed), strict=True):
        y = result.astype(np.float64)
        room = 1e-5 * max(1.0, float(np.abs(span.high).max()))
        off = np.maximum(span.low - y, y - span.high)
        if off.max() > room:
            return f"{name} by {off.max():.3g} of {np.abs(span.high).max():.3g}"
    return ""


@pytest.mark.parametrize(("network", "style"), quantised.cases())
def test_results_are_those_of_exact_arithmetic(tmp_path, network, style):
    path = quantised.case(tmp_path / "q.onnx", network, style)
    session = Session(path)
    for seed in (3, 4):
        assert outside(path, session, seed) == "", f"{network}, {style}, seed {seed}"


@pytest.mark.parametrize("isa", _native.available_isas())
@pytest.mark.parametrize("features", ["all", "none"])
@pytest.mark.parametrize("network", ["residual", "inverted", "masked", "filled"])
def test_every_instruction_set(tmp_path, monkeypatch, network, features, isa):
    monkeypatch.setenv("ACTIVSPARSE_FEATURES", features)
    path = quantised.case(tmp_path / "q.onnx", network, "s8s8 per channel")
    assert outside(path, Session(path, isa=isa), 5) == ""


@pytest.mark.parametrize("isa", ["avx2", "avx512", "neon"])
@pytest.mark.parametrize("network", ["residual", "inverted"])
def test_any_machine_compiles_for_any_other(tmp_path, network, isa):
    path = quantised.case(tmp_path / "q.onnx", network, "u8s8 per channel")
    plan = compile_model(path, isa=isa)
    assert any(f"{isa} int8" in r.kernel.replace("-vnni", "") for r in plan.reports)


@pytest.mark.parametrize("network", ["masked", "filled"])
def test_masks_are_skipped_work(tmp_path, network):
    path = quantised.case(tmp_path / "q.onnx", network, "u8s8 per channel")
    reports = {r.name: r for r in Session(path).explain() if r.kind == "conv_u8"}
    masked = [r for r in reports.values() if r.requested]
    assert masked
    for r in masked:
        assert r.eligible
        assert "int8" in r.kernel
        assert r.achieved == pytest.approx(r.requested, abs=1e-6)
        assert r.macs < r.dense_macs


@pytest.mark.parametrize("style", ["nncf", "nncf s8", "pt2e", "pt2e u8", "opset 10 by hand"])
@pytest.mark.parametrize(("network", "masks"), [("masked", 4), ("masked_silu", 3), ("filled", 2)])
def test_masks_in_front_of_activations_are_skipped_work(tmp_path, network, masks, style):
    """Where the quantiser left no pair between a mask or a fill and what follows."""
    path = quantised.case(tmp_path / "q.onnx", network, style)
    reports = Session(path).explain()
    assert {r.kind for r in reports}.isdisjoint({"mask_multiply", "gather_positions", "conv"})
    assert sum(r.kind == "conv_u8" and bool(r.requested) for r in reports) == masks


@pytest.mark.parametrize("clip", [(0.0, 3.0), (-1.0, 0.5), (0.25, 2.0), (-2.0, -0.25)])
@pytest.mark.parametrize("pair", [True, False])
@pytest.mark.parametrize("order", ["mask first", "clip first", "mask on both sides"])
@pytest.mark.parametrize("fill", [False, True])
def test_masks_beside_clips_are_exact(tmp_path, clip, pair, order, fill):
    """Of clips that make something else of zero, too, with one rounding between or none."""
    b = graphs.Builder(0, 18)
    y = b.conv(b.input(1, 3, 11, 12), 16)
    ranges = [b.constant(np.float32(end)) for end in clip]
    overwritten = (lambda x: b.fill(x, 0.4)) if fill else (lambda x: quantised.lattice(b, x))
    clipped = lambda x: b.node("Clip", x, *ranges)  # noqa: E731
    steps = {
        "mask first": [overwritten, clipped],
        "clip first": [clipped, overwritten],
        "mask on both sides": [overwritten, clipped, lambda x: quantised.lattice(b, x, 1)],
    }[order]
    if pair:
        step, zero = b.constant(np.float32(0.03)), b.constant(np.uint8(101))
        q = b.node("QuantizeLinear", y, step, zero, shape=b.shapes[y])
        y = b.node("DequantizeLinear", q, step, zero, shape=b.shapes[y])
    for step_of in steps:
        y = step_of(y)
    b.save(tmp_path / "f.onnx", b.conv(y, 8))
    model = quantised.typed(tmp_path / "f.onnx")
    path = quantised.by_hand(model, tmp_path / "q.onnx", quantised.STYLES["nncf"])
    session = Session(path)
    assert outside(path, session, 7) == ""


@pytest.mark.parametrize("clip", [(0.0, 3.0), (0.25, 2.0), (-2.0, -0.25)])
def test_a_clip_between_pairs_may_make_something_else_of_zero(tmp_path, monkeypatch, clip):
    """Behind a mask, with the scale of the convolution's result behind both."""
    b = graphs.Builder(0, 18)
    step, zero = b.constant(np.float32(0.03)), b.constant(np.uint8(101))

    def paired(x):
        q = b.node("QuantizeLinear", x, step, zero, shape=b.shapes[x])
        return b.node("DequantizeLinear", q, step, zero, shape=b.shapes[x])

    y = paired(b.conv(b.input(1, 3, 11, 12), 16))
    y = paired(quantised.lattice(b, y))
    y = b.node("Clip", y, *[b.constant(np.float32(end)) for end in clip])
    b.save(tmp_path / "f.onnx", b.conv(y, 8))
    monkeypatch.setattr(quantised, "_READ_QUANTISED", ("Conv",))
    model = quantised.typed(tmp_path / "f.onnx")
    path = quantised.by_hand(model, tmp_path / "q.onnx", quantised.STYLES["nncf"])
    assert outside(path, Session(path), 7) == ""


def test_what_stays_in_float32_is_explained(tmp_path):
    path = quantised.case(tmp_path / "q.onnx", "joined", "nncf")
    reasons = [r.reason for r in Session(path).explain() if r.kind == "quantise"]
    assert any("not fused" in reason and "float32" in reason for reason in reasons)


@pytest.mark.parametrize("threads", [1, 3])
def test_a_plan_file_is_small_and_gives_the_same(tmp_path, threads):
    b = graphs.Builder(0, 18)
    x = b.node("Relu", b.conv(b.input(1, 3, 20, 20), 160))
    original = tmp_path / "q.float.onnx"
    b.save(original, b.conv(b.node("Relu", b.conv(x, 160)), 160))
    model = quantised.typed(original)
    path = quantised.by_onnxruntime(model, tmp_path / "q.onnx", quantised.STYLES["u8s8 per tensor"])
    session = Session(path, threads=threads, winograd=False)  # or AVX2 has some of it in float32
    session.save(tmp_path / "q.plan")
    (feed,) = quantised.images(onnx.load(path), 1, 1)
    np.testing.assert_array_equal(Session(tmp_path / "q.plan").run(feed)[0], session.run(feed)[0])
    again = Session(path, winograd=False)
    np.testing.assert_array_equal(again.run(feed)[0], session.run(feed)[0])
    assert (tmp_path / "q.plan").stat().st_size < 0.35 * original.stat().st_size


@pytest.mark.parametrize("kind", ["silu", "hardswish product"])
def test_a_function_spelled_out_between_one_pair_is_a_table_of_its_convolution(tmp_path, kind):
    b = graphs.Builder(0, 18)
    x = graphs.activation(b, b.conv(b.input(1, 3, 9, 10), 16), kind)
    b.save(tmp_path / "f.onnx", b.conv(graphs.activation(b, b.conv(x, 16), kind), 8))
    path = tmp_path / "q.onnx"
    samples = np.concatenate([f["x"] for f in quantised.images(onnx.load(tmp_path / "f.onnx"))])
    quantize(tmp_path / "f.onnx", samples, path, per_layer=False)
    session = Session(path)
    reports = session.explain()
    kinds = ["quantise", "conv_u8", "conv_u8", "conv_u8", "dequantise", "to_nchw"]
    assert [r.kind for r in reports] == kinds
    assert [r.kernel.endswith("table") for r in reports[1:4]] == [True, True, False]
    assert outside(path, session, 6) == ""


def test_a_head_that_moves_its_values_rounds_them_once(tmp_path):
    b = graphs.Builder(0, 18)
    x = b.node("Relu", b.conv(b.input(1, 3, 5, 6), 12))
    x = b.node("Reshape", x, b.constant(np.array([1, 3, 4, 5, 6])), shape=(1, 3, 4, 5, 6))
    x = b.node("Transpose", x, shape=(1, 3, 5, 6, 4), perm=[0, 1, 3, 4, 2])
    b.save(tmp_path / "f.onnx", b.node("Sigmoid", x))
    path = tmp_path / "q.onnx"
    samples = np.concatenate([f["x"] for f in quantised.images(onnx.load(tmp_path / "f.onnx"))])
    quantize(tmp_path / "f.onnx", samples, path, per_layer=False)
    pairs = [node.op_type for node in onnx.load(path).graph.node].count("QuantizeLinear")
    session = Session(path)
    kinds = [r.kind for r in session.explain()]
    assert pairs == 4  # of the image, of the convolution, and behind each move
    assert kinds.count("quantise") == 1
    assert outside(path, session, 6) == ""


@pytest.mark.parametrize("way", ["transposed", "reshaped", "quantised again", "clipped"])
def test_what_is_computed_of_quantised_weights_is_constant(tmp_path, way):
    """Against ONNX Runtime, operator by operator."""
    rng = np.random.default_rng(list(way.encode()))
    steps = {
        "transposed": ("w = Transpose<perm = [1, 0, 2, 3]>(f)", "4,6,3,3"),
        "reshaped": ("w = Reshape(f, shape)", "54,4"),
        "quantised again": ("r = QuantizeLinear(f, sw, zw)  w = DequantizeLinear(r, sw, zw)", ""),
        "clipped": ("w = Clip(f, low, high)", ""),
    }
    step, shape = steps[way]
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 4, 9, 9] x) => (float[1, 6, 9, 9] y)
        <float s = {{0.05}}, uint8 z = {{117}}, float sw = {{0.01}}, int8 zw = {{0}},
         float low = {{-0.3}}, float high = {{0.3}}, int64[4] shape = {{6, 4, 3, 3}}>
        {{
            q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)
            f = DequantizeLinear(w8, sw, zw)  {step}
            y = Conv<pads = [1, 1, 1, 1]>(d, w)
        }}"""
    )
    size = [int(n) for n in shape.split(",")] if shape else [6, 4, 3, 3]
    weights = rng.integers(-99, 99, size, np.int8)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "w8"))
    onnx.save(model, tmp_path / "q.onnx")
    session = Session(tmp_path / "q.onnx")
    kinds = [row.kind for row in session.explain()]
    assert kinds.count("conv") + kinds.count("conv_u8") == 1
    for row in compare_with_onnxruntime(tmp_path / "q.onnx", session, seed=5):
        assert row.holds, row


@pytest.mark.parametrize("bias", [2**31 - 1, -(2**31), 2**30])
@pytest.mark.parametrize(("operator", "size"), [("Conv", 1), ("Conv", 16), ("Gemm", 1)])
def test_biases_at_the_ends_of_int32_do_not_overflow(tmp_path, operator, size, bias):
    """Where quantisers clip them. Against ONNX Runtime, operator by operator."""
    rng = np.random.default_rng([size, len(operator), bias & 0xFFFF])
    conv = operator == "Conv"
    shape = "1, 16, 9, 9" if conv else "1, 16"
    attributes = f"pads = [1, 1, 1, 1], group = {size}" if conv else "transB = 1"
    model = parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]>
        g (float[{shape}] x) => (float[{shape}] y)
        <float s = {{0.05}}, uint8 z = {{117}}, float sw = {{0.01}}, int8 zw = {{0}},
         float sb = {{0.0005}}, int32 zb = {{0}}, float so = {{20000.0}}, uint8 zo = {{128}}>
        {{
            q = QuantizeLinear(x, s, z)  d = DequantizeLinear(q, s, z)
            f = DequantizeLinear(w8, sw, zw)  b = DequantizeLinear(b32, sb, zb)
            c = {operator}<{attributes}>(d, f, b)
            e = QuantizeLinear(c, so, zo)  y = DequantizeLinear(e, so, zo)
        }}"""
    )
    weights = rng.integers(-127, 128, (16, 16 // size, *([3, 3] if conv else [])), np.int8)
    for name, value in (("w8", weights), ("b32", np.full(16, bias, np.int32))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    onnx.save(model, tmp_path / "q.onnx")
    x = rng.standard_normal([int(n) for n in shape.split(",")], np.float32)
    (truth,) = expected(tmp_path / "q.onnx", {"x": x})
    # All are at the same end, or near the middle: a sum that overflows is at the other one.
    np.testing.assert_allclose(Session(tmp_path / "q.onnx").run(x), truth, rtol=0, atol=20000.0)
