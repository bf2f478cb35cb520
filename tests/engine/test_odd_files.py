"""Files as strangers write them: saved by ONNX Runtime, of odd outputs and sizes, or no ONNX."""

from __future__ import annotations

import graphs
import numpy as np
import onnx
import onnxruntime
import oracle
import pytest
from onnx import TensorProto, helper, numpy_helper

from activsparse import ActivsparseError, Session
from activsparse.cli import main
from activsparse.engine.verify import TRIALS, compare_with_onnxruntime
from activsparse.export.mask import mask_model
from activsparse.onnx_file import read_model

DOMAIN = "com.microsoft"


def network(opset=18, size=(1, 3, 14, 12)):
    """A builder, and the name of what two convolutions give of its input."""
    b = graphs.Builder(3, opset)
    x = b.node("Relu", b.conv(b.input(*size), 8))
    return b, b.node("Relu", b.conv(x, 16))


def save(path, b, outputs, domains=(), ir_version=9):
    """Write a model; outputs are names with their types."""
    results = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()]
    graph = helper.make_graph(b.nodes, "test", b.inputs, results, b.constants)
    opsets = [helper.make_opsetid("", b.opset), *(helper.make_opsetid(d, 1) for d in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=ir_version), path)
    return path


ACTIVATIONS = [
    ("", []),
    ("Relu", []),
    ("Sigmoid", []),
    ("Tanh", []),
    ("LeakyRelu", [0.2]),
    ("HardSigmoid", [0.3, 0.4]),
    ("Clip", [-0.5, 0.75]),
]


@pytest.mark.parametrize("opset", [8, 18])
@pytest.mark.parametrize("added", [False, True])
@pytest.mark.parametrize(("activation", "parameters"), ACTIVATIONS, ids=lambda value: str(value))
def test_convolutions_that_onnx_runtime_fused(tmp_path, opset, added, activation, parameters):
    b, x = network(opset)
    inputs = [x, b.constant(b.normal(16, 16, 3, 3) / 12), b.constant(b.normal(16))]
    if added:
        inputs.append(x)
    settings = {"activation": activation} if activation else {}
    if parameters:
        settings["activation_params"] = parameters
    b.nodes.append(
        helper.make_node("FusedConv", inputs, ["y"], domain=DOMAIN, pads=[1] * 4, **settings)
    )
    oracle.check(save(tmp_path / "m.onnx", b, {"y": TensorProto.FLOAT}, [DOMAIN]))


def test_a_file_that_onnx_runtime_saved(tmp_path):
    b, x = network(17)
    x = b.node("LeakyRelu", b.conv(x, 16), alpha=0.1)
    x = b.node("Add", b.conv(x, 16), x)
    x = b.node("GlobalAveragePool", b.node("Relu", x), shape=(1, 16, 1, 1))
    x = b.node("Relu", b.gemm(b.flatten(x), 10))
    path = b.save(tmp_path / "m.onnx", b.gemm(x, 4))
    x = oracle.random_input(path)
    want = oracle.expected(path, x)
    levels = onnxruntime.GraphOptimizationLevel
    for level in (levels.ORT_ENABLE_BASIC, levels.ORT_ENABLE_EXTENDED):
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = level
        options.optimized_model_filepath = str(tmp_path / "saved.onnx")
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        oracle.check(tmp_path / "saved.onnx", x, want=want)
    fused = {node.op_type for node in onnx.load(tmp_path / "saved.onnx").graph.node}
    assert {"FusedConv", "FusedGemm"} <= fused
    masked = str(tmp_path / "masked.onnx")
    arguments = ["--sparsity", "0.3", "--out", masked]
    assert main(["mask", str(tmp_path / "saved.onnx"), *arguments]) == 0
    assert main(["verify", masked]) == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"activation": "Mish"},
        {"activation": "Clip"},
        {"activation": "Clip", "activation_params": [0.0]},
    ],
)
def test_an_unknown_fused_activation_stays_foreign(tmp_path, settings):
    b, x = network()
    inputs = [x, b.constant(b.normal(16, 16, 3, 3))]
    b.nodes.append(helper.make_node("FusedConv", inputs, ["y"], domain=DOMAIN, **settings))
    path = save(tmp_path / "m.onnx", b, {"y": TensorProto.FLOAT}, [DOMAIN])
    with pytest.raises(ActivsparseError, match=r"'com\.microsoft'"):
        Session(path)


def test_data_elsewhere_excuse_no_other_attribute(tmp_path):
    """What a node keeps in a file of its own is not looked at by the checker, all else is."""
    b, x = network()
    y = b.conv(x, 4)
    attribute = onnx.AttributeProto(name="hint", type=onnx.AttributeProto.TENSOR)
    attribute.t.CopyFrom(helper.make_tensor("hint", TensorProto.FLOAT, [1], [0.0]))
    attribute.t.ClearField("float_data")
    attribute.t.data_location = TensorProto.EXTERNAL
    attribute.t.external_data.add(key="location", value="w.bin")
    (tmp_path / "w.bin").write_bytes(bytes(4))
    b.nodes[-1].attribute.append(attribute)
    path = save(tmp_path / "m.onnx", b, {y: TensorProto.FLOAT}, [])
    with pytest.raises(ActivsparseError, match=r"\(Conv\) is not valid"):
        read_model(path, weights=False)


def test_what_onnx_runtime_laid_out_for_one_machine_is_named(tmp_path):
    b, x = network()
    b.nodes.append(helper.make_node("ReorderOutput", [x], ["y"], domain=f"{DOMAIN}.nchwc"))
    path = save(tmp_path / "m.onnx", b, {"y": TensorProto.FLOAT}, [f"{DOMAIN}.nchwc"])
    with pytest.raises(ActivsparseError, match="optimises for one machine; use the file it was"):
        Session(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "git lfs pull"),
        (b"\x10\0\0\0ORTM" + bytes(64), "the ONNX file it was made from"),
        (b"\x1c\0\0\0TFL3" + bytes(64), "TFLite"),
        (b"PK\x03\x04" + bytes(64), "torch.onnx"),
        (b"\x1f\x8b\x08" + bytes(64), "unpack"),
        (b"<!DOCTYPE html><html>", "download the file again"),
        (b'{"irVersion": 9}', "format='json'"),
        (b"ir_version: 9\nopset_import {\n}\n", "format='textproto'"),
        (b"<\n   ir_version: 9,\n", "format='onnxtxt'"),
        (b"<?xml version=", "OpenVINO"),
        (b"no model", "damaged"),
        (b"\xff\xfe\0\1" * 20, "damaged"),
    ],
)
def test_files_that_are_no_onnx_are_told_apart(tmp_path, capsys, content, words):
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ActivsparseError) as caught:
        read_model(path)
    assert words in str(caught.value)
    for command in (["verify"], ["explain"], ["bench", "--dense"]):
        assert main([*command, str(path)]) == 2
        assert words in capsys.readouterr().err


def test_an_input_without_a_shape(tmp_path, capsys):
    b, x = network()
    path = str(save(tmp_path / "m.onnx", b, {x: TensorProto.FLOAT}))
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    assert main(["verify", path]) == 2
    assert "has no shape in the file; give it" in capsys.readouterr().err
    given = ["--input-shape", "x=1x3x14x12"]
    masked, plan = str(tmp_path / "masked.onnx"), str(tmp_path / "m.plan")
    for command in (
        ["info", path],
        ["verify", path],
        ["check", path],
        ["explain", path, "--no-candidates"],
        ["compile", path, "--out", plan],
        ["mask", path, "--sparsity", "0.3", "--out", masked],
    ):
        assert main([*command, *given]) == 0, command
    assert main(["verify", masked]) == 0
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 14, 12), np.float32))
    files = ["--input", str(tmp_path / "x.npy"), "--output", str(tmp_path / "y.npy")]
    assert main(["run", path, *files]) == 0


def test_constants_and_inputs_that_are_outputs_too_can_be_masked(tmp_path):
    b, x = network()
    outputs = dict.fromkeys((x, b.constants[2].name, "x"), TensorProto.FLOAT)
    path = save(tmp_path / "m.onnx", b, outputs)
    masked = str(tmp_path / "masked.onnx")
    assert main(["mask", str(path), "--sparsity", "0.3", "--out", masked]) == 0
    assert main(["verify", masked]) == 0


def test_shapes_that_a_file_notes_wrongly_do_not_size_masks(tmp_path):
    b, x = network()
    path = save(tmp_path / "m.onnx", b, {x: TensorProto.FLOAT})
    model = onnx.load(path)
    noted = helper.make_tensor_value_info(b.nodes[0].output[0], TensorProto.FLOAT, [1, 8, 5, 5])
    model.graph.value_info.append(noted)
    onnx.save(model, path)
    masked = str(tmp_path / "masked.onnx")
    assert main(["mask", str(path), "--sparsity", "0.3", "--include-stem", "--out", masked]) == 0
    assert main(["verify", masked]) == 0


def test_shapes_that_a_file_notes_count_where_nothing_else_tells(tmp_path):
    b, x = network()
    b.nodes.append(helper.make_node("Magic", [x], ["z"], domain="some.where"))
    b.shapes["z"] = (1, 16, 14, 12)
    y = b.node("Relu", b.conv("z", 8))
    path = save(tmp_path / "m.onnx", b, {y: TensorProto.FLOAT}, ["some.where"])
    model = onnx.load(path)
    _, report = mask_model(model, 0.3)
    assert len(report.layers) == 1
    model.graph.value_info.append(
        helper.make_tensor_value_info("z", TensorProto.FLOAT, b.shapes["z"])
    )
    _, report = mask_model(model, 0.3)
    assert [layer.shape.output for layer in report.layers] == [(14, 12)] * 2


@pytest.mark.parametrize("opset", [10, 11, 12, 13])
def test_sizes_sliced_from_constants_size_masks(tmp_path, opset):
    """As torch's older exporter writes reflected pads."""
    b, x = network(opset)
    axes = b.constant(np.array([0]))
    shape = b.constant(np.array([7, 1, 16, 6, 28]))
    bounds = (b.constant(np.array([1])), b.constant(np.array([5])))
    shape = b.node("Slice", shape, *bounds, axes, shape=(4,))
    x = b.node("Reshape", x, shape, shape=(1, 16, 6, 28))
    x = b.node("Relu", b.conv(x, 8))
    y = b.node("Relu", b.conv(x, 8))
    path = save(tmp_path / "m.onnx", b, {y: TensorProto.FLOAT})
    masked, report = mask_model(onnx.load(path), 0.3, pattern="lattice")
    assert [layer.shape.output for layer in report.layers] == [(14, 12), (6, 28), (6, 28)]
    onnx.save(masked, tmp_path / "masked.onnx")
    oracle.check(tmp_path / "masked.onnx")


def test_external_data_of_attributes(tmp_path):
    b, x = network()
    weight = numpy_helper.from_array(b.normal(8, 16, 3, 3) / 12)
    b.nodes.append(helper.make_node("Constant", [], ["w"], value=weight))
    b.nodes.append(helper.make_node("Conv", [x, "w"], ["y"], "last"))
    path = save(tmp_path / "m.onnx", b, {"y": TensorProto.FLOAT})
    onnx.save(
        onnx.load(path),
        path,
        save_as_external_data=True,
        convert_attribute=True,
        size_threshold=0,
        location="weights",
    )
    for command in (["info"], ["verify"], ["check"], ["explain", "--no-candidates"]):
        assert main([command[0], str(path), *command[1:]]) == 0, command


def test_bytes_as_results(tmp_path):
    b, x = network()
    bounds = (b.constant(np.float32(0)), b.constant(np.float32(255)))
    scaled = b.node("Clip", b.node("Mul", x, b.constant(np.float32(40))), *bounds)
    for kind in ("uint8", "int16", "uint16", "int32"):
        code = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        y = b.node("Cast", scaled, to=code)
        path = save(tmp_path / f"{kind}.onnx", b, {y: code})
        rng = np.random.default_rng(1)
        feed = {"x": rng.standard_normal((1, 3, 14, 12)).astype(np.float32)}
        (got,), (want,) = Session(path).run(None, feed), oracle.expected(path, feed)
        assert got.dtype == want.dtype
        off = np.abs(got.astype(int) - want)
        assert off.max() <= 1
        assert (off > 0).mean() < 0.01  # where a rounding takes it over a step


@pytest.mark.parametrize("ends", ["ArgMax", "MaxPool"])
def test_choices_among_nan_are_not_compared(tmp_path, ends):
    """A network that ends with the places of the largest scores; Winograd spreads NaN."""
    b, x = network(size=(1, 3, 16, 16))
    scores = b.conv(x, 5)
    if ends == "ArgMax":
        b.nodes.append(helper.make_node("ArgMax", [scores], ["places"], axis=1))
    else:
        settings = {"kernel_shape": [2, 2], "strides": [2, 2]}
        b.nodes.append(helper.make_node("MaxPool", [scores], ["y", "places"], **settings))
    path = save(tmp_path / "m.onnx", b, {"places": TensorProto.INT64})
    session = Session(path, fallback="onnxruntime", tune=False)
    rows = compare_with_onnxruntime(path, session, 0, TRIALS)
    assert rows
    assert all(row.holds for row in rows), rows


def test_outputs_that_are_no_tensors_are_named(tmp_path, capsys):
    b, x = network()
    b.nodes.append(helper.make_node("SequenceConstruct", [x, x], ["both"]))
    path = save(tmp_path / "m.onnx", b, {x: TensorProto.FLOAT})
    model = onnx.load(path)
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    model.graph.output.append(helper.make_value_info("both", kind))
    onnx.save(model, path)
    for command in (["verify"], ["bench", "--repeat", "2", "--engines", "activsparse", "--dense"]):
        assert main([*command, str(path), "--fallback", "onnxruntime"]) == 2
        assert "no tensor, which alone can be compared" in capsys.readouterr().err


def test_sizes_of_zero_are_named_by_bench_too(tmp_path, capsys):
    b, x = network()
    path = save(tmp_path / "m.onnx", b, {x: TensorProto.FLOAT})
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0
    onnx.save(model, path)
    for command in (["verify"], ["bench", "--dense"]):
        assert main([*command, str(path)]) == 2
        assert "has a size of 0" in capsys.readouterr().err
