"""`verify` on quantised files: choices at boundaries hold, wrong arithmetic does not."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import quantised
from onnx import numpy_helper

from activsparse import Session
from activsparse.engine import verify_quantised
from activsparse.engine.exact import ExactModel
from activsparse.engine.verify import NORMAL, TRIALS, compare_with_onnxruntime


class Engine:
    """What `verify` asks of a session, in exact arithmetic with some choices at boundaries."""

    threads = 1

    def __init__(self, path, choice: float = 0.0, change=lambda model: None) -> None:
        model = onnx.load(path)
        (value,) = model.graph.input
        self.shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
        change(model)
        self.exact = ExactModel(model)
        self.choice = choice
        self.outputs = [(name, None) for name in self.exact.outputs]

    def random_input(self, seed):
        rng = np.random.default_rng(seed)
        return {self.exact.inputs[0]: rng.standard_normal(self.shape).astype(np.float32)}

    def run(self, x):
        jitter = np.random.default_rng(0) if self.choice else None
        found = self.exact.run(x, slack=self.choice, jitter=jitter)
        return [span.low.astype(np.float32) for span in found.values()]

    def explain(self):
        return []

    def get_inputs(self):
        return [SimpleNamespace(name=self.exact.inputs[0], shape=self.shape, type="tensor(float)")]

    def get_outputs(self):
        return [SimpleNamespace(name=name, type="tensor(float)") for name in self.exact.outputs]


def quantised_case(tmp_path, network: str, style: str = "u8s8 per channel"):
    return quantised.case(tmp_path / "q.onnx", network, style, seed=1)


@pytest.mark.parametrize("network", ["plain", "residual", "curved", "masked", "classifier"])
@pytest.mark.parametrize("style", ["u8s8 per channel", "operators u8s8", "nncf"])
def test_choices_at_boundaries_hold(tmp_path, network, style):
    path = quantised_case(tmp_path, network, style)
    rows = compare_with_onnxruntime(path, Engine(path, 2.0**-8), seed=2, trials=TRIALS)
    assert [row.trial for row in rows] == ["normal", "denormal", "huge"]
    for row in rows:
        assert row.holds, row


QUICK = ("u8s8 per channel", "operators s8s8", "nncf")


@pytest.mark.parametrize(
    ("network", "style"),
    [
        pytest.param(*case, marks=() if case[1] in QUICK else pytest.mark.slow)
        for case in quantised.cases()
    ],
)
def test_the_engine_holds(tmp_path, network, style):
    path = quantised_case(tmp_path, network, style)
    rows = compare_with_onnxruntime(path, Session(path), seed=2, trials=TRIALS)
    assert [row.trial for row in rows] == ["normal", "denormal", "huge"]
    for row in rows:
        assert row.holds, row


def rolled(model: onnx.ModelProto) -> None:
    """All filters of one convolution meet the tap beside their own."""
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 4 and tensor.dims[3] == 3 and tensor.data_type == 3:
            values = np.roll(numpy_helper.to_array(tensor), 1, 3)
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
            return
    raise AssertionError("no such weight")


def shifted(model: onnx.ModelProto) -> None:
    """Results are a step too low: what comes of rounding down."""
    steps = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    last = [n for n in model.graph.node if n.op_type == "DequantizeLinear"][-1]
    zero = steps[last.input[2]]
    name = "shifted_zero"
    model.graph.initializer.append(numpy_helper.from_array(zero + zero.dtype.type(1), name))
    last.input[2] = name


@pytest.mark.parametrize("network", ["plain", "residual", "inverted", "joined"])
@pytest.mark.parametrize("fault", [rolled, shifted])
def test_wrong_arithmetic_does_not_hold(tmp_path, network, fault):
    path = quantised_case(tmp_path, network)
    (row,) = compare_with_onnxruntime(path, Engine(path, change=fault))
    assert not row.holds, row
    assert "against exact arithmetic; ONNX Runtime's" in row.note
    if fault is shifted:
        assert "too many values differ" in row.problem or row.max_abs_err > row.bound


def test_onnxruntime_that_saturates_does_not_decide(tmp_path, monkeypatch):
    """The engine is right, ONNX Runtime (as without VNNI) is not."""
    import onnxruntime

    path = quantised_case(tmp_path, "plain")
    run = onnxruntime.InferenceSession.run
    monkeypatch.setattr(
        onnxruntime.InferenceSession, "run", lambda *a, **k: [0.9 * y for y in run(*a, **k)]
    )
    (row,) = compare_with_onnxruntime(path, Engine(path), trials=[NORMAL])
    assert row.holds, row
    assert row.max_abs_err < 1e-5
    assert "ONNX Runtime's 0." in row.note


def test_where_nothing_evaluates_it_onnxruntime_decides(tmp_path, monkeypatch):
    path = quantised_case(tmp_path, "plain")
    monkeypatch.setattr(ExactModel, "run", _fails)
    reference = verify_quantised.ExactReference(path)
    rows = ["as they were"]
    assert reference.decide({}, rows, [], [], []) == rows


def _fails(*args, **kwargs):
    raise NotImplementedError("no reference")


def test_only_quantised_files_are_taken_for_such(tmp_path):
    path = quantised_case(tmp_path, "plain")
    assert verify_quantised.is_quantised(path)
    assert not verify_quantised.is_quantised(path.with_suffix(".float.onnx"))
