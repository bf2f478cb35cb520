"""Inputs without axes: thresholds and factors that a file wants beside its picture."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from activsparse import Session
from activsparse.bench.compare import compare
from activsparse.engine.verify import compare_with_onnxruntime

HEAD = '<ir_version: 8, opset_import: ["" : 17]> m '
MODELS = {
    "factor": "(float[N, 3, 12, 12] x, float s) => (float[N, 10] y) {"
    " c = Conv<pads = [1, 1, 1, 1]>(x, w)  r = Relu(c)  d = Conv<pads = [1, 1, 1, 1]>(r, v)"
    " e = Mul(d, s)  p = GlobalAveragePool(e)  f = Flatten(p)  y = Gemm(f, u) }",
    "choice": "(float[1, 3, 12, 12] x, bool k, float s) => (float[1, 32, 12, 12] y, float t) {"
    " c = Conv<pads = [1, 1, 1, 1]>(x, w)  d = Add(s, c)  r = Relu(d)  y = Where(k, r, d)"
    " t = Mul(s, s) }",
    "number": "(float[1, 3, 12, 12] x, int64 n) => (float[1, 32, 12, 12] y) {"
    " c = Conv<pads = [1, 1, 1, 1]>(x, w)  f = Cast<to = 1>(n)  y = Mul(c, f) }",
}
FOREIGN = (
    "(float[1, 3, 12, 12] x, int64 n, float s) => (float[1, 32, 12, 12] y, float t) {"
    " c = Conv<pads = [1, 1, 1, 1]>(x, w)  f = Cast<to = 1>(n)  g = Sinh(f)  y = Mul(c, g)"
    " t = Sinh(s) }"
)


def saved(tmp_path, text):
    model, rng = onnx.parser.parse_model(HEAD + text), np.random.default_rng(0)
    for name, shape in (("w", (32, 3, 3, 3)), ("v", (32, 32, 3, 3)), ("u", (32, 10))):
        values = 0.1 * rng.standard_normal(shape, np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values, name))
    onnx.save(model, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def feeds(session):
    values = {"k": np.array(True), "n": np.array(2, np.int64), "s": np.array(1.5, np.float32)}
    x = np.random.default_rng(1).standard_normal((1, 3, 12, 12), np.float32)
    return {"x": x} | {name: values[name] for name, shape in session.inputs if shape == ()}


def agrees(path, session):
    x = feeds(session)
    expected = onnxruntime.InferenceSession(str(path)).run(None, x)
    for own, theirs in zip(session.run(None, x), expected, strict=True):
        assert own.shape == np.shape(theirs)
        np.testing.assert_allclose(own, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", MODELS.values(), ids=MODELS)
def test_results_are_onnxruntimes_from_the_file_and_from_a_plan(tmp_path, text):
    path = saved(tmp_path, text)
    session = Session(path, tune=False)
    assert () in dict(session.inputs).values()
    agrees(path, session)
    session.save(tmp_path / "model.plan")
    agrees(path, Session(tmp_path / "model.plan"))
    for row in compare_with_onnxruntime(path, session):
        assert row.holds, row


def test_a_fallback_reads_and_gives_them(tmp_path):
    path = saved(tmp_path, FOREIGN)
    session = Session(path, fallback="onnxruntime", tune=False)
    assert any(row.algorithm == "onnxruntime" for row in session.explain())
    agrees(path, session)
    for row in compare_with_onnxruntime(path, session):
        assert row.holds, row


@pytest.mark.parametrize("batch", [1, 2])
def test_all_engines_are_timed_with_them(tmp_path, batch):
    path = saved(tmp_path, MODELS["factor"])
    found = compare(
        path,
        [],
        ["activsparse", "onnxruntime", "openvino"],
        threads=1,
        repeat=2,
        input_shapes={"x": (batch, 3, 12, 12), "s": ()},
    )
    assert {row.engine for row in found.rows} == {"activsparse", "onnxruntime", "openvino"}
