"""Quantised convolutions that AVX2 computes in float32: where, why, and how near to exact."""

from __future__ import annotations

import graphs
import numpy as np
import onnx
import pytest
import quantised

from activsparse import Session, _native
from activsparse.engine import mix
from activsparse.engine.compile import compile_model
from activsparse.engine.exact import ExactModel
from activsparse.engine.verify import compare_with_onnxruntime
from activsparse.engine.verify_quantised import CHOICE


def write(folder, seed, channels=64, size=30, style="u8s8 per channel", residual=True):
    """Two 3x3 convolutions and a sum, with maps on which Winograd has much to save."""
    b = graphs.Builder(seed, 18)
    x = b.node("Relu", b.conv(b.input(1, 3, size, size), channels))
    y = b.conv(b.node("Relu", b.conv(x, channels)), channels)
    b.save(folder / "f.onnx", b.node("Relu", b.node("Add", x, y) if residual else y))
    model = quantised.typed(folder / "f.onnx")
    return quantised.by_onnxruntime(model, folder / "q.onnx", quantised.STYLES[style])


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    monkeypatch.setenv("ACTIVSPARSE_FEATURES", "none")


def in_float(reports):
    return [r for r in reports if "in float32" in r.reason and r.kind == "conv"]


def test_a_plan_says_what_it_computes_in_float32(tmp_path):
    path = write(tmp_path, 0)
    mixed = compile_model(path, isa="avx2").reports
    assert len(in_float(mixed)) == 2
    assert all(r.precision == "float32" for r in in_float(mixed))
    exact = compile_model(path, isa="avx2", winograd=False).reports
    assert not in_float(exact)
    assert [r.kind for r in exact].count("conv_u8") == 3


@pytest.mark.parametrize("isa", ["avx512", "neon", "scalar"])
def test_others_compute_bytes(tmp_path, isa):
    assert not in_float(compile_model(write(tmp_path, 0), isa=isa).reports)


def test_with_products_of_bytes_nothing_is_mixed(tmp_path, monkeypatch):
    monkeypatch.setenv("ACTIVSPARSE_FEATURES", "all")
    plan = compile_model(write(tmp_path, 0), isa="avx2")
    vnni = any("vnni" in r.kernel for r in plan.reports)
    assert bool(in_float(plan.reports)) is not vnni


def test_few_channels_stay_on_bytes(tmp_path):
    assert not in_float(compile_model(write(tmp_path, 0, channels=8, size=9), isa="avx2").reports)


@pytest.mark.skipif("avx2" not in _native.available_isas(), reason="no AVX2")
@pytest.mark.parametrize(
    ("seed", "style", "residual"),
    [(1, "u8s8 per channel", True), (2, "s8s8 per channel", False), (3, "u8s8 per tensor", True)],
)
def test_results_are_as_near_as_verify_asks(tmp_path, monkeypatch, seed, style, residual):
    monkeypatch.setattr(mix, "_SHARE", 2.0)  # whatever the estimate
    path = write(tmp_path, seed, 32, 15, style, residual)
    session = Session(path, isa="avx2", tune=False)
    assert in_float(session.explain())
    (feed,) = quantised.images(onnx.load(path), seed, 1)
    span = next(iter(ExactModel(path).run(feed, slack=CHOICE).values()))
    y = session.run(feed)[0].astype(np.float64)
    room = 1e-5 * float(np.abs(span.high).max())
    off = np.maximum(span.low - y, y - span.high).max()
    assert off <= room, f"seed {seed}, {style}, residual {residual}: off by {off}"
    assert all(row.holds for row in compare_with_onnxruntime(path, session, seed=seed))
