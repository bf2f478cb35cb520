"""A Session as a stand-in for onnxruntime's, and what it says about itself."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from activsparse import ActivsparseError, Session
from activsparse.engine.compile import compile_file


@pytest.fixture
def two_outputs(tmp_path):
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 3, 8, 8] x, float[1, 3, 8, 8] z) => (float[1, 3, 8, 8] a, float[1, 3, 8, 8] b)
        { a = Add(x, z) b = Relu(a) }"""
    )
    onnx.save(model, tmp_path / "two.onnx")
    return tmp_path / "two.onnx"


def described(values) -> list[tuple[str, list[int], str]]:
    return [(value.name, value.shape, value.type) for value in values]


def test_it_answers_as_onnxruntime_does(two_outputs):
    ours = Session(two_outputs)
    theirs = onnxruntime.InferenceSession(two_outputs, providers=["CPUExecutionProvider"])
    assert described(ours.get_inputs()) == described(theirs.get_inputs())
    assert described(ours.get_outputs()) == described(theirs.get_outputs())
    rng = np.random.default_rng(0)
    feeds = {v.name: rng.standard_normal(v.shape, np.float32) for v in ours.get_inputs()}
    for names in (None, ["b"], ["b", "a"], []):
        actual = ours.run(names, feeds)
        assert isinstance(actual, list)
        for one, other in zip(actual, theirs.run(names, feeds), strict=True):
            np.testing.assert_array_equal(one, other)
    for one, other in zip(ours.run(feeds), ours.run(None, feeds), strict=True):
        np.testing.assert_array_equal(one, other)


def test_one_output_is_a_list_only_with_two_arguments(dense):
    session = Session(dense)
    x = np.ones((1, 3, 8, 8), np.float32)
    (listed,) = session.run(None, {"x": x})
    np.testing.assert_array_equal(session.run(x), listed)


def test_a_fallback_names_its_types(tmp_path):
    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 3, 8, 8] x) => (float[1, 3, 8, 8] y, int64[1, 1, 8, 8] top)
        { y = Relu(x) top = ArgMax<axis = 1>(y) }"""
    )
    onnx.save(model, tmp_path / "m.onnx")
    session = Session(tmp_path / "m.onnx", fallback="onnxruntime")
    assert [value.type for value in session.get_outputs()] == ["tensor(float)", "tensor(int64)"]
    assert [y.dtype for y in session.run(session.random_input())] == [np.float32, np.int64]


@pytest.mark.parametrize(
    ("names", "feeds", "message"),
    [
        (["q"], {"x": 0, "z": 0}, r"has no output 'q'; valid names: a, b"),
        (None, {"x": 0}, r"got inputs \['x'\], the model has \['x', 'z'\]"),
        (None, 3, "the inputs are a int; give a dict"),
    ],
)
def test_mistakes(two_outputs, names, feeds, message):
    with pytest.raises(ActivsparseError, match=message):
        Session(two_outputs).run(names, feeds)


def test_tensors_of_torch_are_inputs(dense):
    torch = pytest.importorskip("torch")
    session = Session(dense)
    x = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = session.run(x.numpy())
    np.testing.assert_array_equal(session.run(x), expected)
    np.testing.assert_array_equal(session.run(x.requires_grad_()), expected)
    with pytest.raises(ActivsparseError, match="is float64; convert it to float32"):
        session.run(x.double())
    with pytest.raises(ActivsparseError, match="is bfloat16; convert it to float32"):
        session.run(x.bfloat16())
    with pytest.raises(ActivsparseError, match="got no input"):
        session.run(None)


def test_threads_are_by_default_those_of_the_cores_it_may_use(dense):
    program = (
        "import os, sys; cores = os.sched_getaffinity(0)\n"
        "os.sched_setaffinity(0, sorted(cores)[: int(sys.argv[2])])\n"
        "import activsparse; print(activsparse.Session(sys.argv[1]).threads)"
    )
    found = []
    for cores in ("1", "1000"):
        words = [sys.executable, "-c", program, str(dense), cores]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
        found.append(int(done.stdout))
    assert found[0] == 1
    assert 1 <= found[1] <= len(os.sched_getaffinity(0))


def test_its_repr_names_inputs_types_and_kernels(sparse):
    text = repr(Session(sparse, threads=2))
    assert "threads=2" in text
    assert "input x: tensor(float) [1, 3, 8, 8]" in text
    assert "output y: tensor(float) [1, 4, 8, 8]" in text
    assert "1 x conv by " in text


@pytest.mark.parametrize("fallback", [None, "onnxruntime"])
@pytest.mark.parametrize("form", ["bytes", "model", "plan"])
def test_a_model_need_not_be_a_file(sparse, tmp_path, form, fallback):
    """The same numbers as from the file; copies of the session work, the model stays as it is."""
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)
    want = Session(sparse, tune=False).run(x)
    model = onnx.load(sparse)
    before = model.SerializeToString()
    source = {"bytes": before, "model": model}.get(form)
    if form == "plan":
        if fallback:
            return
        Session(sparse, tune=False).save(tmp_path / "m.plan")
        source = (tmp_path / "m.plan").read_bytes()
    options = {} if form == "plan" else {"tune": False, "fallback": fallback}
    session = Session(source, **options)
    np.testing.assert_array_equal(session.run(x), want)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(session)).run(x), want)
    assert "Session('model'" in repr(session)
    assert model.SerializeToString() == before


@pytest.mark.parametrize("source", [b"", b"hello", b"m.onnx", onnx.TensorProto(name="x" * 1000)])
def test_what_is_no_model_in_memory_is_one_short_line(source):
    with pytest.raises(ActivsparseError) as refused:
        Session(source)
    line = str(refused.value)
    assert line.startswith("model: ")
    assert "\n" not in line
    assert len(line) < 200


def test_a_model_in_memory_is_compiled(sparse, tmp_path):
    compile_file(onnx.load(sparse), tmp_path / "a.plan", tune=False)
    compile_file(sparse, tmp_path / "b.plan", tune=False)
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)
    a, b = (Session(tmp_path / name).run(x) for name in ("a.plan", "b.plan"))
    np.testing.assert_array_equal(a, b)
