"""`activsparse info`: facts about a file, each against what wrote it."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from activsparse import Session
from activsparse.cli import main


def facts(capsys: pytest.CaptureFixture[str], *words: object) -> dict[str, str]:
    assert main(["info", *map(str, words)]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    return dict(re.split(r"  +", line, maxsplit=1) for line in printed.out.splitlines())


def test_a_dense_model(dense, capsys):
    found = facts(capsys, dense)
    model = onnx.load(dense)
    (opset,) = model.opset_import
    assert found["file"].startswith("ONNX, ")
    assert f"opset ai.onnx {opset.version}, " in found["file"]
    assert found["input"] == "x: float32 1x3x8x8"
    count = sum(int(np.prod(tensor.dims)) for tensor in model.graph.initializer)
    assert found["constants"].startswith(f"{count:,} numbers in {len(model.graph.initializer)} ")
    session = Session(dense, tune=False)
    macs = sum(row.dense_macs for row in session.explain() if row.kind == "conv")
    assert f"{macs / 1e6:,.1f} M multiply-adds" in found["convolutions"]
    assert found["masks"] == "none: a dense model"
    assert found["engine"] == f"runs all of it ({session.isa})"


def test_weights_that_are_nodes_count(dense, tmp_path, capsys):
    model = onnx.load(dense)
    before = facts(capsys, dense)["constants"]
    for tensor in model.graph.initializer:
        node = onnx.helper.make_node("Constant", [], [tensor.name], value=tensor)
        model.graph.node.insert(0, node)
    del model.graph.initializer[:]
    onnx.save(model, tmp_path / "nodes.onnx")
    assert facts(capsys, tmp_path / "nodes.onnx")["constants"] == before


def test_masks_are_counted_and_measured(sparse, capsys):
    found = facts(capsys, sparse)
    masks = [
        1 - onnx.numpy_helper.to_array(tensor).mean()
        for tensor in onnx.load(sparse).graph.initializer
        if tensor.name.endswith(".activation_mask")
    ]
    assert found["masks"].startswith(f"{len(masks)} (fill {len(masks)} zero), ")
    assert found["sparsity"].startswith(f"{np.mean(masks):.3f}, share of")
    assert "multiply-adds done" in found["work"]
    assert found["skipping"].startswith(f"{len(masks)} of {len(masks)} operators with masks save")


def test_open_sizes_are_shown_and_can_be_given(dynamic, capsys):
    assert facts(capsys, dynamic)["engine"].startswith("does not run it: ")
    found = facts(capsys, dynamic, "--input-shape", "x=2x3x8x8")
    assert found["input"] == "x: float32 nx3xhx8"
    assert found["engine"].startswith("runs all of it")


def test_a_plan(sparse, tmp_path, capsys):
    plan = tmp_path / "model.plan"
    Session(sparse, tune=False).save(plan)
    found, of_model = facts(capsys, plan), facts(capsys, sparse)
    assert found["file"].startswith("compiled plan, ")
    assert found["input"] == "x: float32 1x3x8x8"
    assert (found["runs as"], found["skipping"]) == (of_model["runs as"], of_model["skipping"])


def test_foreign_operators_are_named(tmp_path, capsys):
    nodes = [
        helper.make_node("Relu", ["x"], ["a"]),
        helper.make_node("Cosh", ["a"], ["y"], name="strange"),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, (1, 3, 8, 8)) for name in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(
        helper.make_model(graph, opset_imports=opsets, ir_version=9), tmp_path / "strange.onnx"
    )
    found = facts(capsys, tmp_path / "strange.onnx")
    assert found["engine"].startswith("runs it with --fallback onnxruntime (node 'strange' (Cosh)")
    assert found["foreign"].startswith("1 part(s), from ")


def test_a_tflite_file(sparse, tmp_path, capfd):
    pytest.importorskip("ai_edge_litert")
    pytest.importorskip("flatbuffers")
    from activsparse.litert import convert

    convert(sparse, tmp_path / "model.tflite", verify=False)
    assert main(["info", str(tmp_path / "model.tflite")]) == 0
    lines = capfd.readouterr().out.splitlines()
    found = dict(re.split(r"  +", line, maxsplit=1) for line in lines)
    assert found["file"].startswith("TFLite, ")
    assert found["input"].endswith(": float32 1x8x8x3")
    assert "CONV_2D" in found["operators"]
    assert found["delegate"] == "claims 1 part(s)"


@pytest.mark.parametrize("content", [b"", b"hello", b"\x00\x00\x00\x00TFL3 and no more"])
def test_a_file_of_something_else_is_one_line(content, tmp_path, capsys):
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    assert main(["info", str(path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert str(path) in line
