"""`activsparse run` with one array, and with several by name, against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, save

from activsparse.cli import main

NAMES = ("file", "args", "mean/of: both", "y")


@pytest.fixture
def two(tmp_path, monkeypatch):
    """Two inputs of open sizes, four outputs of which one is named as a parameter of savez."""
    monkeypatch.chdir(tmp_path)
    sizes = [None, 3, "h", "w"]
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, sizes) for n in ("a", "b")]
    outputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in NAMES]
    nodes = [
        helper.make_node("Add", ["a", "b"], ["file"], "add"),
        helper.make_node("Mul", ["a", "b"], ["args"], "mul"),
        helper.make_node("GlobalAveragePool", ["file"], ["mean/of: both"], "mean"),
        helper.make_node("Relu", ["args"], ["y"], "relu"),
    ]
    graph = helper.make_graph(nodes, "two", inputs, outputs)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]), "two.onnx")
    rng = np.random.default_rng(0)
    given = {name: rng.standard_normal((2, 3, 5, 7), np.float32) for name in "ab"}
    np.savez("x.npz", **given)
    expected = onnxruntime.InferenceSession("two.onnx").run(list(NAMES), given)
    return dict(zip(NAMES, expected, strict=True))


@pytest.mark.parametrize("compiled", [False, True])
def test_all_inputs_and_outputs_by_name(two, compiled):
    model = "two.onnx"
    if compiled:
        model = "two.plan"
        shapes = ["--input-shape", "a=2x3x5x7", "b=2x3x5x7"]
        assert main(["compile", "two.onnx", "--out", model, *shapes]) == 0
    assert main(["run", model, "--input", "x.npz", "--output", "y.npz"]) == 0
    with np.load("y.npz") as found:
        assert sorted(found.files) == sorted(NAMES)
        for name, value in two.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_first_output_alone(two):
    assert main(["run", "two.onnx", "--input", "x.npz", "--output", "y.npy"]) == 0
    np.testing.assert_allclose(np.load("y.npy"), two["file"], rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no whole file of arrays"),
        (b"PK\x03\x04 and no more", "no whole file of arrays"),
        ({"a": np.zeros((2, 3, 5, 7), np.float32)}, "b"),
        ({"a": np.zeros(2, np.float32), "c": np.zeros(3, np.float32)}, "c"),
        ({"a": np.array([None])}, "no whole file of arrays"),
    ],
)
def test_mistakes_are_one_line(two, capsys, tmp_path, content, message):
    if isinstance(content, bytes):
        (tmp_path / "z.npz").write_bytes(content)
    else:
        np.savez("z.npz", **content)
    assert main(["run", "two.onnx", "--input", "z.npz", "--output", "y.npz"]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
    assert not (tmp_path / "y.npz").exists()
