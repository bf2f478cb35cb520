"""Inputs, outputs and weights of other types than float32, in models and in plans."""

from __future__ import annotations

import graphs
import numpy as np
import onnx
import oracle
import pytest
from onnx import TensorProto, helper, numpy_helper

from activsparse import ActivsparseError, Session
from activsparse.cli import main
from activsparse.engine.verify import compare_with_onnxruntime


def half(path, masked=False):
    """A small network in float16 throughout."""
    b = graphs.Builder(7)
    x = b.conv(b.input(1, 3, 12, 12), 16)
    if masked:
        x = b.mask(x)
    x = b.node("Relu", x)
    x = b.node("Relu", b.norm(b.conv(x, 16)))
    half = numpy_helper.from_array(np.array(0.5, np.float32))
    b.nodes.append(helper.make_node("Constant", [], ["scale"], value=half))
    x = b.node("Mul", x, "scale")
    b.save(path, b.conv(b.node("Cast", x, to=TensorProto.FLOAT), 8))
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
        )
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "to":
                attribute.i = TensorProto.FLOAT16
            if attribute.HasField("t"):
                value = numpy_helper.to_array(attribute.t).astype(np.float16)
                attribute.t.CopyFrom(numpy_helper.from_array(value))
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    onnx.save(model, path)
    return path


def image_of_bytes(path, *nodes):
    """A network that takes an image of bytes."""
    b = graphs.Builder(9)
    x = b.input(1, 3, 10, 10)
    b.inputs[0].type.tensor_type.elem_type = TensorProto.UINT8
    pixels = b.node("Cast", x, to=TensorProto.FLOAT)
    pixels = b.node("Div", pixels, b.constant(np.float32(255)))
    return b.save(path, b.node("Relu", b.conv(pixels, 8)))


@pytest.mark.parametrize("masked", [False, True])
def test_half_precision(tmp_path, masked):
    path = half(tmp_path / "half.onnx", masked)
    rng = np.random.default_rng(1)
    x = rng.standard_normal((1, 3, 12, 12)).astype(np.float16)
    (want,) = oracle.expected(str(path), {"x": x})
    for options in ({}, {"fallback": "onnxruntime"}):
        session = Session(path, **options)
        assert session.get_inputs()[0].type == session.get_outputs()[0].type == "tensor(float16)"
        y = session.run(x)
        assert y.dtype == np.float16
        # Each layer of the reference rounds to 11 bits.
        np.testing.assert_allclose(y, want, rtol=0, atol=8 * 2.0**-11 * np.abs(want).max())
    for row in compare_with_onnxruntime(path, session):
        assert row.holds, row
    with pytest.raises(ActivsparseError, match="input 'x' is float32; convert it to float16"):
        session.run(x.astype(np.float32))


def test_half_precision_from_the_command_line(tmp_path, capsys):
    path, masked = half(tmp_path / "half.onnx"), tmp_path / "masked.onnx"
    assert main(["mask", str(path), "--sparsity", "0.3", "--out", str(masked)]) == 0
    assert main(["verify", str(masked)]) == 0
    assert main(["check", str(path)]) == 0
    assert "dense holds; masked holds (" in capsys.readouterr().out


def test_bytes(tmp_path):
    path = image_of_bytes(tmp_path / "bytes.onnx")
    x = np.random.default_rng(2).integers(0, 256, (1, 3, 10, 10)).astype(np.uint8)
    oracle.check(path, {"x": x})
    assert Session(path).get_inputs()[0].type == "tensor(uint8)"
    for row in compare_with_onnxruntime(path, Session(path)):
        assert row.holds, row


@pytest.mark.parametrize("write", [half, image_of_bytes])
def test_a_plan_keeps_the_types(tmp_path, write):
    session = Session(write(tmp_path / "m.onnx"))
    session.save(tmp_path / "m.plan")
    plan = Session(tmp_path / "m.plan")
    x = plan.random_input(3)
    assert plan.get_inputs() == session.get_inputs()
    assert plan.get_outputs() == session.get_outputs()
    assert plan.run(x).dtype == session.run(x).dtype
    np.testing.assert_array_equal(plan.run(x), session.run(x))


def test_integers_that_float32_does_not_hold(tmp_path):
    b = graphs.Builder(4)
    x = b.input(1, 4)
    b.inputs[0].type.tensor_type.elem_type = TensorProto.INT64
    path = b.save(tmp_path / "m.onnx", b.node("Cast", x, to=TensorProto.FLOAT))
    oracle.check(path, {"x": np.array([[1, -2, 3, 1 << 24]])})
    with pytest.raises(ActivsparseError, match=r"numbers beyond 2\^24"):
        Session(path).run(np.array([[0, 0, 0, (1 << 24) + 1]]))


def test_a_result_of_constant_integers(tmp_path):
    b = graphs.Builder(6)
    x = b.conv(b.input(1, 3, 6, 6), 4)
    size = b.node("Shape", x, shape=(4,))
    results = [helper.make_tensor_value_info(n, t, None) for n, t in ((x, 1), (size, 7))]
    graph = helper.make_graph(b.nodes, "g", b.inputs, results, b.constants)
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), tmp_path / "m.onnx")
    oracle.check(tmp_path / "m.onnx")
