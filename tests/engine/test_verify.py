"""What `verify` compares, and whom it believes."""

from __future__ import annotations

import graphs
import numpy as np
import onnx
import onnxruntime
import oracle
import pytest
import torch
import torchvision
from onnx import helper

from activsparse import Session, cli
from activsparse.engine.oracle import in_double
from activsparse.engine.tolerance import amplification, network_bound, sums_of
from activsparse.engine.verify import TRIALS, OutputError, compare_with_onnxruntime


@pytest.fixture
def b():
    return graphs.Builder()


def network(b: graphs.Builder, mask=None, fill=False, activation="relu", size=14) -> str:
    """Convolutions, a gate and a residual."""
    x = b.conv(b.input(1, 3, size, size), 16)
    x = b.norm(x)
    x = b.node("Relu", x) if activation == "relu" else graphs.activation(b, x, activation)
    y = b.conv(x, 16, group=16)
    if mask is not None:
        y = b.mask(y, mask)
    if fill:
        y = b.fill(y)
    pooled = b.node("GlobalAveragePool", y, shape=(1, 16, 1, 1))
    gate = b.node("Sigmoid", b.conv(pooled, 16, (1, 1), pads=(0, 0, 0, 0)))
    y = b.node("Mul", y, gate)
    return b.node("Add", x, b.conv(y, 16))


@pytest.mark.parametrize("activation", ["relu", "silu", "relu6"])
@pytest.mark.parametrize("mask", [None, 0.4])
@pytest.mark.parametrize("winograd", [True, False])
def test_all_trials_hold(tmp_path, b, activation, mask, winograd):
    y = network(b, mask, fill=mask is not None, activation=activation)
    pooled = b.node("MaxPool", y, shape=(1, 16, 7, 7), kernel_shape=(2, 2), strides=(2, 2))
    path = b.save(tmp_path / "m.onnx", y, b.node("Softmax", y, axis=1), pooled)
    session = Session(path, winograd=winograd)
    rows = compare_with_onnxruntime(path, session, seed=3, trials=TRIALS)
    assert [row.trial for row in rows] == [trial for trial in TRIALS for _ in range(3)]
    for row in rows:
        assert row.holds, row


@pytest.mark.parametrize("foreign", [False, True])
@pytest.mark.parametrize("wrong", [0.0, 4e-3])
def test_roundings_that_a_network_amplifies_are_told_from_mistakes(tmp_path, b, wrong, foreign):
    """What differs is a millionth of the sums: their rounding is much of it, in any engine."""
    rng = np.random.default_rng(5)
    weight = rng.standard_normal((8, 64, 3, 3)).astype(np.float32)
    few = b.node("Mul", b.input(1, 64, 12, 12), b.constant(np.float32(1e-6)))
    x = b.node("Relu", b.node("Add", few, b.constant(np.float32(1))))
    y = b.node("Conv", x, b.constant(weight))
    mean = weight.sum(axis=(1, 2, 3), dtype=np.float64).astype(np.float32)
    y = b.node("Sub", y, b.constant(mean.reshape(1, 8, 1, 1)))
    path = b.save(tmp_path / "m.onnx", b.node("Sinh", y) if foreign else y)
    session = Session(path, fallback="onnxruntime" if foreign else None)
    sums = sums_of(session.explain())
    if wrong:
        session = Changed(session, lambda y: y + np.float32(wrong))
    (row,) = compare_with_onnxruntime(path, session, seed=3)
    assert row.max_abs_err > network_bound(sums, np.array([1e-4]))
    assert row.holds == (wrong == 0), row
    assert "the network amplifies roundings" in row.note


class Changed:
    """A session whose output somebody has changed."""

    def __init__(self, session, change):
        self._session, self._change = session, change

    def __getattr__(self, name):
        return getattr(self._session, name)

    def run(self, x):
        return self._change(self._session.run(x))


@pytest.mark.parametrize("trial", ["NaN", "infinite"])
def test_a_nan_that_is_lost_or_made_up_is_a_problem(tmp_path, b, trial):
    x = b.conv(b.input(1, 3, 10, 9), 8, (1, 1), pads=(0, 0, 0, 0))
    path = b.save(tmp_path / "m.onnx", b.node("Relu", x))

    def trial_of(change):
        session = Changed(Session(path), change)
        (row,) = compare_with_onnxruntime(path, session, trials=[trial])
        return row

    assert trial_of(lambda y: y).holds
    lost = trial_of(np.nan_to_num)
    assert not lost.holds
    assert "NaN or infinite" in lost.problem
    made = trial_of(lambda y: np.where(np.arange(9) == 4, np.float32(np.nan), y))
    assert not made.holds


def test_another_shape_is_one_line(tmp_path, b, monkeypatch, capsys):
    path = b.save(tmp_path / "m.onnx", b.node("Relu", b.conv(b.input(1, 3, 10, 9), 8)))
    run = Session.run
    monkeypatch.setattr(Session, "run", lambda self, x: run(self, x)[:, :, :9])
    assert cli.main(["verify", str(path)]) == 1
    printed = capsys.readouterr()
    assert "its shape is (1, 8, 9, 9), the reference's (1, 8, 10, 9)" in printed.out
    assert printed.err == ""


def test_double_precision_decides_who_is_off(tmp_path, b):
    """ONNX Runtime's sigmoid errs by 1e-7 near 0, much where an output is small throughout."""
    x = b.node("Sub", b.conv(b.input(1, 3, 6, 6), 8), b.constant(np.float32(17)))
    path = b.save(tmp_path / "m.onnx", b.node("Sigmoid", x))
    (row,) = compare_with_onnxruntime(path, Session(path))
    assert row.holds, row
    assert row.max_abs_err < 1e-10
    assert "against float64" in row.note
    (row,) = compare_with_onnxruntime(path, Changed(Session(path), lambda y: y * np.float32(1.01)))
    assert not row.holds
    assert "float64" in row.note


def test_a_mistake_where_nothing_is_multiplied_is_found(tmp_path, b):
    """No sums: there is nothing to draw roundings of."""
    path = b.save(tmp_path / "m.onnx", b.node("Relu", b.input(1, 3, 6, 6)))
    for change, holds in ((1.0, True), (1.01, False)):
        session = Changed(Session(path), lambda y, change=change: y * np.float32(change))
        (row,) = compare_with_onnxruntime(path, session)
        assert row.holds == holds, row


def test_amplification_is_that_of_the_transforms():
    """The variance of errors of F(6x6) and F(4x4), simulated by rounding each product's sum."""
    assert amplification("direct") == amplification("winograd2") == 1.0
    assert amplification("winograd6") == amplification("winograd6_chequered")
    assert 40 < amplification("winograd6") < 50
    assert 2 < amplification("winograd4") < 3


@pytest.mark.parametrize("name", ["resnet18", "squeezenet1_1"])
def test_random_networks_stay_within_the_bound(tmp_path, name):
    """Random weights as torchvision draws them; Winograd's dearest tile wherever it runs."""
    check_random(tmp_path, torchvision.models.get_model(name, weights=None), 64)


def check_random(tmp_path, model: torch.nn.Module, size: int) -> None:
    torch.manual_seed(0)
    for module in model.modules():
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()
    model.eval()
    x = torch.randn(1, 3, size, size)
    path = tmp_path / "m.onnx"
    torch.onnx.export(model, (x,), path, dynamo=False, input_names=["x"])
    import onnxruntime

    expected = onnxruntime.InferenceSession(path).run(None, {"x": x.numpy()})
    for winograd, tune in ((True, True), (True, False), (False, False)):
        session = Session(path, winograd=winograd, tune=tune)
        found = session.run(x.numpy())
        for y, z in zip(found if isinstance(found, list) else [found], expected, strict=True):
            error, bound = np.abs(y - z).max(), network_bound(sums_of(session.explain()), z)
            assert error <= bound, (winograd, tune, error, bound)
            assert bound <= 0.01 * np.abs(z).max()  # a wrong tap is off by more


def test_an_output_of_zeros_alone_may_round():
    zeros = np.zeros((2, 3), np.float32)
    assert OutputError.of("y", zeros + np.float32(1e-7), zeros, [27.0]).holds
    assert not OutputError.of("y", zeros + np.float32(1e-3), zeros, [27.0]).holds


def test_double_precision_knows_old_norms_for_what_they_are(tmp_path):
    """Before opset 14 a norm may name its momentum, though it is not in training."""
    b = graphs.Builder(8, opset=12)
    x = b.norm(b.conv(b.input(1, 3, 6, 6), 8))
    b.nodes[-1].attribute.append(onnx.helper.make_attribute("momentum", 0.9))
    path = b.save(tmp_path / "m.onnx", x)
    session = Session(path)
    feed = session.random_input()
    (exact,) = in_double(path, [x], feed)
    np.testing.assert_allclose(session.run(feed), exact, rtol=1e-5, atol=1e-5)


def hanging_on_a_bit(tmp_path) -> tuple[str, np.ndarray]:
    """A network that says which values are above a threshold, and whether it is ONNX Runtime's.

    The threshold lies between what the engine and what ONNX Runtime compute of one of them.
    """
    b = graphs.Builder(4)
    y = b.conv(b.input(1, 64, 12, 12), 8)
    session = Session(b.save(tmp_path / "plain.onnx", y), algorithm="winograd6")
    x = session.random_input(7)
    ours = session.run(x)
    providers = ["CPUExecutionProvider"]
    (theirs,) = onnxruntime.InferenceSession(tmp_path / "plain.onnx", providers=providers).run(
        None, x
    )
    at = np.argmax(np.abs(ours - theirs))
    threshold = b.constant(np.minimum(ours, theirs).reshape(-1)[at])
    above = b.node("NonZero", b.node("Greater", y, threshold))
    return b.save(tmp_path / "bit.onnx", y, b.node("Cast", above, to=onnx.TensorProto.FLOAT))


@pytest.mark.parametrize("wrong", [False, True])
def test_a_number_of_boxes_that_roundings_decide_is_no_mistake(tmp_path, caplog, wrong):
    """Results of different shapes say nothing where another rounding changes them as well."""
    caplog.set_level("INFO")
    session = Session(hanging_on_a_bit(tmp_path), algorithm="winograd6", fallback="onnxruntime")
    if wrong:
        session = Changed(session, lambda found: [found[0], found[1][:, 5:]])
    rows = compare_with_onnxruntime(tmp_path / "bit.onnx", session, seed=7)
    assert "roundings decide the shapes of normal results" in caplog.text
    assert [row.holds for row in rows] == [True, not wrong], rows
    assert len(rows) == 2
    assert ("its shape is" in rows[1].problem) == wrong


def test_a_choice_among_equal_boxes_is_not_compared(tmp_path, b):
    """Denormal inputs are an even picture: which of equal scores are kept, roundings decide."""
    scores = b.node("Flatten", b.conv(b.input(1, 16, 20, 20), 1), shape=(1, 400))
    ten = b.constant(np.array([10], np.int64))
    best = b.node("TopK", scores, ten, shape=(1, 10))
    b.nodes[-1].output.append("places")
    places = b.node("Cast", "places", shape=(1, 10), to=onnx.TensorProto.FLOAT)
    path = b.save(tmp_path / "best.onnx", best, places)
    session = Session(path, algorithm="winograd6", fallback="onnxruntime")
    rows = compare_with_onnxruntime(path, session, trials=["normal", "denormal", "huge"])
    assert {row.trial for row in rows} == {"normal", "huge"}
    assert all(row.holds for row in rows), rows


def test_float64_knows_integers_and_maxima_of_lines(tmp_path):
    """Two things onnx's reference cannot have as they are: integers as floats, pooled lines."""
    text = """<ir_version: 8, opset_import: ["" : 17]>
    ids (int32[1, 6] x) => (float[1, 4] y, bool[1, 6, 1] known)
    <int32[1, 1, 5] k = {0, 1, 2, 3, 4}> {
        last = Constant <value_ints = [2]> ()
        column = Unsqueeze (x, last)
        equal = Equal (column, k)
        hot = Cast <to = 1> (equal)
        product = MatMul (hot, w)
        lines = Transpose <perm = [0, 2, 1]> (product)
        most = GlobalMaxPool (lines)
        y = Squeeze (most, last)
        zero = Constant <value_int = 3> ()
        three = Cast <to = 6> (zero)
        known = Less (column, three)
    }"""
    model = onnx.parser.parse_model(text)
    weight = np.random.default_rng(3).standard_normal((5, 4)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(model, tmp_path / "ids.onnx")
    x = np.array([[4, 0, 2, 2, 1, 0]], np.int32)
    found = in_double(tmp_path / "ids.onnx", ["y", "known"], {"x": x})
    assert found is not None
    np.testing.assert_array_equal(found[0], weight.astype(np.float64)[x[0]].max(axis=0)[None])
    np.testing.assert_array_equal(found[1], (x < 3)[..., None])


def test_where_the_largest_of_some_nan_is_nobody_agrees_on(tmp_path, b):
    """By direct convolutions, which leave NaN where they are."""
    x = b.conv(b.input(1, 3, 12, 12), 8)
    flat = b.node("Reshape", x, b.constant(np.array([8, 144])), shape=(8, 144))
    best = b.node("ReduceMax", flat, b.constant(np.array([0])), keepdims=0, shape=(144,))
    b.nodes.append(helper.make_node("TopK", [best, b.constant(np.array([9]))], ["v", "i"]))
    path = b.save(tmp_path / "m.onnx", "v", "i")
    model = onnx.load(path)
    model.graph.output[1].type.tensor_type.elem_type = onnx.TensorProto.INT64
    onnx.save(model, path)
    for row in compare_with_onnxruntime(path, Session(path, winograd=False), trials=TRIALS):
        assert row.holds, row


def test_what_samples_at_nan_places_of_a_picture_may_forget_them(tmp_path):
    """A deformable convolution between two of ours, by Winograd's tiles, which share NaN."""
    b = graphs.Builder(4, opset=19)
    x = b.conv(b.input(1, 3, 24, 24), 16)
    places = b.conv(x, 18)
    kernel = b.constant(b.normal(16, 16, 3, 3) / np.float32(12))
    y = b.node("DeformConv", x, kernel, places, shape=(1, 16, 24, 24), pads=[1, 1, 1, 1])
    path = b.save(tmp_path / "m.onnx", b.conv(y, 16))
    session = Session(path, fallback="onnxruntime", tune=False)
    for row in compare_with_onnxruntime(path, session, trials=TRIALS):
        assert row.holds, row


@pytest.mark.parametrize("opset", [7, 8, 9, 13, 18])
def test_double_precision_has_norms_of_every_operator_set(tmp_path, opset):
    b = graphs.Builder(opset, opset)
    x = b.input(2, 3, 6, 6)
    path = b.save(tmp_path / "m.onnx", b.norm(b.norm(b.conv(x, 8))))
    feed = oracle.random_input(path)
    (exact,) = in_double(path, [onnx.load(path).graph.output[0].name], feed)
    (want,) = oracle.expected(path, feed)
    np.testing.assert_allclose(exact, want, rtol=1e-5, atol=1e-5)
