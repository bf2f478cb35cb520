"""What masks would gain, without data."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from activsparse.cli import main


def two_convolutions(path, size: int | str = 16):
    rng = np.random.default_rng(0)
    shapes = {"a.weight": (8, 3, 3, 3), "b.weight": (8, 8, 3, 3)}
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape, np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "a.weight"], ["a"], pads=[1] * 4),
        helper.make_node("Conv", ["a", "b.weight"], ["b"], pads=[1] * 4),
        helper.make_node("GlobalAveragePool", ["b"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, size, size))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 8, 1, 1))],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)


def test_an_onnx_file_is_timed_and_what_is_needed_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    two_convolutions("m.onnx")
    assert main(["sparsify", "m.onnx", "--engines", "onnxruntime"]) == 0
    shown = capsys.readouterr().out
    rows = [line.split() for line in shown.splitlines() if "activsparse" in line or "ONNX" in line]
    assert [row[0] for row in rows[:4]] == ["dense", "dense", "masked", "masked"]
    for sparsity, row in zip(("0.3", "0.5"), rows[2:4], strict=True):
        assert row[1] == sparsity
        assert abs(float(row[3]) / 100 - float(sparsity)) < 0.2
    assert "nobody trained them" in shown
    assert "activsparse sparsify NETWORK --data FOLDER --target-speedup" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["m.onnx"]


def test_open_sizes_are_given(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    two_convolutions("m.onnx", "side")
    assert main(["sparsify", "m.onnx", "--engines", ""]) == 2
    assert "--input-s" in capsys.readouterr().err
    assert main(["sparsify", "m.onnx", "--engines", "", "--input-size", "16x16"]) == 0
