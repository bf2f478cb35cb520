"""Inputs, outputs and weights of other types than float32, in models and in plans."""

from __future__ import annotations

import graphs
import numpy as np
import onnx
import oracle
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from activsparse import ActivsparseError, Session
from activsparse.bench.compare import compare
from activsparse.cli import main
from activsparse.engine.verify import compare_with_onnxruntime
from activsparse.onnx_file.retype import retype


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


def cast_to(path, dtype: int, masked: bool = False):
    """A network in float32 whose input and output are of another type."""
    b = graphs.Builder(7)
    x = b.conv(b.node("Cast", b.input(1, 3, 12, 12), to=TensorProto.FLOAT), 16)
    x = b.node("Relu", b.mask(x) if masked else x)
    b.save(path, b.node("Cast", b.conv(x, 8), to=dtype))
    model = onnx.load(path)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = dtype
    onnx.save(model, path)
    return path


def double_ends(path, masked=False):
    return cast_to(path, TensorProto.DOUBLE, masked)


def double(path, masked=False):
    """A network in float64 throughout, which ONNX Runtime has no convolution for."""
    b = graphs.Builder(7)
    x = b.conv(b.input(1, 3, 12, 12), 16)
    x = b.node("Relu", b.norm(b.mask(x) if masked else x))
    b.save(path, b.node("Cast", b.conv(x, 8), to=TensorProto.FLOAT))
    model = onnx.load(path)
    retype(model.graph, TensorProto.FLOAT, TensorProto.DOUBLE)
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


@pytest.mark.parametrize("masked", [False, True])
def test_double_precision_at_the_ends(tmp_path, masked):
    path = double_ends(tmp_path / "ends.onnx", masked)
    x = np.random.default_rng(1).standard_normal((1, 3, 12, 12))
    for options in ({}, {"fallback": "onnxruntime"}):
        oracle.check(path, {"x": x}, **options)
        session = Session(path, **options)
        assert session.get_inputs()[0].type == session.get_outputs()[0].type == "tensor(double)"
    for row in compare_with_onnxruntime(path, session):
        assert row.holds, row
    with pytest.raises(ActivsparseError, match="input 'x' is float32; convert it to float64"):
        session.run(x.astype(np.float32))
    x[0, 0, 0, 0] = 1e39
    with pytest.raises(ActivsparseError, match="holds numbers beyond"):
        session.run(x)
    x[0, 0, 0, 0] = np.inf
    assert not np.isfinite(session.run(x)).all()


@pytest.mark.parametrize("masked", [False, True])
def test_double_precision_throughout_is_computed_in_single(tmp_path, masked):
    path = double(tmp_path / "double.onnx", masked)
    x = np.random.default_rng(2).standard_normal((1, 3, 12, 12))
    (want,) = ReferenceEvaluator(str(path)).run(None, {"x": x})
    for options in ({}, {"fallback": "onnxruntime"}):
        session = Session(path, **options)
        y = session.run(x)
        assert y.dtype == np.float64
        np.testing.assert_allclose(y, want, rtol=1e-4, atol=1e-5)
        for row in compare_with_onnxruntime(path, session):
            assert row.holds, row


def test_sizes_in_double_precision_keep_their_digits(tmp_path):
    """0.29 times 100 is just below 29 in float64, and 29 in float32."""
    b = graphs.Builder(5)
    x = b.conv(b.input(1, 3, 40, 40), 4)
    product = b.node("Mul", b.constant(np.array([0.29])), b.constant(np.array([100.0])), shape=(1,))
    size = b.node("Cast", b.node("Floor", product), to=TensorProto.INT64)
    x = b.node("Slice", x, b.constant(np.array([0])), size, b.constant(np.array([2])))
    path = b.save(tmp_path / "m.onnx", x)
    oracle.check(path)
    assert Session(path).outputs[0][1] == (1, 4, 28, 40)


@pytest.mark.parametrize("write", [double_ends, double, half, image_of_bytes])
def test_every_command_takes_other_types(tmp_path, capsys, write):
    path, plan, masked = (str(tmp_path / name) for name in ("m.onnx", "m.plan", "masked.onnx"))
    write(tmp_path / "m.onnx")
    x = Session(path).random_input(4)["x"]
    np.save(tmp_path / "x.npy", x)
    for arguments in (
        ["info", path],
        ["verify", path],
        ["check", path],
        ["explain", path, "--no-candidates"],
        ["compile", path, "--out", plan],
        ["run", path, "--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy")],
        ["run", plan, "--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "z.npy")],
        ["mask", path, "--sparsity", "0.3", "--include-stem", "--out", masked],
        ["verify", masked],
        ["info", plan],
    ):
        assert main(arguments) == 0, arguments
    text = capsys.readouterr().out
    assert f"input    x: {x.dtype}" in text
    assert f"'x' ({x.dtype})" in text  # explain, of what is converted
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), np.load(tmp_path / "z.npy"))


@pytest.mark.parametrize("write", [double_ends, image_of_bytes])
def test_other_types_are_timed(tmp_path, write):
    path = write(tmp_path / "m.onnx")
    engines = ["activsparse", "onnxruntime"]
    found = compare(path, [], engines, threads=1, repeat=2, warn_if_busy=False)
    assert len(found.rows) == 2


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


@pytest.mark.parametrize("write", [half, double, double_ends, image_of_bytes])
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


@pytest.mark.parametrize("dtype", ["uint16", "int32", "uint32", "int64", "uint64"])
def test_whole_numbers_at_both_ends(tmp_path, dtype):
    path = cast_to(tmp_path / "m.onnx", helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))
    model = onnx.load(path)
    model.graph.node[-1].input[0] = "positive"
    last = model.graph.node[-2].output[0]
    model.graph.node.insert(
        -1 + len(model.graph.node), helper.make_node("Relu", [last], ["positive"])
    )
    onnx.save(model, path)
    x = np.random.default_rng(5).integers(0, 9, (1, 3, 12, 12)).astype(dtype)
    oracle.check(path, {"x": x}, dtype)
    x[0, 0, 0, 0] = 65535 if dtype == "uint16" else 2**24 + 1
    if dtype != "uint16":
        with pytest.raises(ActivsparseError, match="'x'"):
            Session(path).run(x)
