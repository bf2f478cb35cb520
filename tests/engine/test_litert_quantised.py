"""Int8 .tflite files of QDQ models, run by LiteRT and held to exact arithmetic."""

from __future__ import annotations

import graphs
import numpy as np
import onnx
import pytest
import quantised
from onnx import numpy_helper

import activsparse
from activsparse import cli
from activsparse.engine.exact import ExactModel
from activsparse.errors import ActivsparseError

interpreters = pytest.importorskip("ai_edge_litert.interpreter")
litert = pytest.importorskip("activsparse.litert")

_FAST = ("u8s8 per channel", "s8s8 symmetric", "nncf", "pt2e")
CASES = [
    pytest.param(
        network, style, marks=[] if style in _FAST or network == "plain" else pytest.mark.slow
    )
    for network, style in quantised.cases()
    if not quantised.STYLES[style].operators
]


def run(content: bytes, x: np.ndarray, reference: bool = False):
    """All tensors by name, NHWC, and the first output."""
    kinds = interpreters.OpResolverType
    kind = kinds.BUILTIN_REF if reference else kinds.BUILTIN
    interpreter = interpreters.Interpreter(
        model_content=content, experimental_op_resolver_type=kind
    )
    interpreter.allocate_tensors()
    (entry,) = interpreter.get_input_details()
    interpreter.set_tensor(entry["index"], np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    interpreter.invoke()
    y = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    return interpreter, y.transpose(0, 3, 1, 2) if y.ndim == 4 else y


@pytest.mark.parametrize(("network", "style"), CASES)
def test_litert_is_near_exact_arithmetic(tmp_path, network, style):
    """By XNNPACK and by LiteRT's reference kernels: a few steps apart at most, less in the mean."""
    path = quantised.case(tmp_path / "q.onnx", network, style, seed=1)
    result = litert.convert(path, tmp_path / "q.tflite")
    assert all(row.holds for row in result.errors)
    (x,) = quantised.images(onnx.load(path), 7, 1)
    (truth,) = (span.low for span in ExactModel(path).run(x).values())
    (values,) = x.values()
    step = np.abs(truth).max() / 127
    for reference in (False, True):
        _, y = run((tmp_path / "q.tflite").read_bytes(), values, reference)
        error = np.abs(y - truth)
        context = f"{network}, {style}, reference kernels {reference}"
        assert error.max() < 5 * step, context
        assert error.mean() < 0.8 * step, context


def test_weights_and_values_are_int8_and_biases_int32(tmp_path):
    path = quantised.case(tmp_path / "q.onnx", "inverted", "u8s8 per channel")
    litert.convert(path, tmp_path / "q.tflite")
    (x,) = quantised.images(onnx.load(path), 7, 1)
    interpreter, _ = run((tmp_path / "q.tflite").read_bytes(), *x.values())
    details = {d["name"]: d for d in interpreter.get_tensor_details()}
    weights = {k: d for k, d in details.items() if k.endswith(".weight")}
    biases = {k: d for k, d in details.items() if k.endswith(".bias")}
    assert len(weights) == len(biases) == 7
    for name, detail in weights.items():
        assert detail["dtype"] == np.int8
        scales = detail["quantization_parameters"]
        assert not scales["zero_points"].any()
        axis = scales["quantized_dimension"]
        assert axis == (3 if detail["shape"][0] == 1 and detail["shape"][1] > 1 else 0), name
        assert len(scales["scales"]) == detail["shape"][axis]
    assert {d["dtype"] for d in biases.values()} == {np.int32}
    # What a float32 file would take four times of.
    assert (tmp_path / "q.tflite").stat().st_size < path.with_suffix(".float.onnx").stat().st_size
    ops = {d["op_name"] for d in interpreter._get_ops_details()}
    ops -= {"DELEGATE"}  # XNNPACK
    assert ops == {"QUANTIZE", "CONV_2D", "DEPTHWISE_CONV_2D", "ADD", "PAD", "DEQUANTIZE"}


@pytest.mark.parametrize("network", ["masked", "filled"])
def test_masks_of_our_own_files_are_exact(tmp_path, network):
    """Zeros are the zero point, copies copies, and nothing is left in float between."""
    b = graphs.Builder(3)
    path = b.save(tmp_path / "m.onnx", *quantised.ZOO[network](b))
    samples = np.concatenate([next(iter(x.values())) for x in quantised.images(onnx.load(path))])
    made = activsparse.quantize(path, samples, tmp_path / "q.onnx", per_layer=False)
    litert.convert(tmp_path / "q.onnx", tmp_path / "q.tflite")
    interpreter, _ = run((tmp_path / "q.tflite").read_bytes(), samples[:1])
    ops = [d["op_name"] for d in interpreter._get_ops_details()]
    assert ops.count("DEQUANTIZE") == 1
    assert ops.count("GATHER") == (2 if network == "filled" else 0)
    assert "TRANSPOSE" not in ops
    constants = {t.name: numpy_helper.to_array(t) for t in made.model.graph.initializer}
    masks = [c for name, c in constants.items() if name.endswith(".activation_mask")]
    values = {d["name"]: d for d in interpreter.get_tensor_details()}
    assert len(masks) == (4 if network == "masked" else 0)
    for detail in values.values() if masks else ():
        if detail["name"].endswith(".masked"):
            assert detail["dtype"] == np.int8


@pytest.mark.parametrize(
    ("network", "style", "message"),
    [
        ("plain", "operators u8s8", "only QuantizeLinear and DequantizeLinear can be written"),
        ("grouped", "u8s8 per channel", "a convolution in groups cannot be written"),
    ],
)
def test_what_cannot_be_written_is_named(tmp_path, monkeypatch, network, style, message):
    def grouped(b):
        return [b.conv(b.input(1, 4, 8, 8), 8, group=2)]

    monkeypatch.setitem(quantised.ZOO, "grouped", grouped)
    path = quantised.case(tmp_path / "q.onnx", network, style)
    with pytest.raises(ActivsparseError, match=message):
        litert.convert(path, tmp_path / "q.tflite")
    assert not (tmp_path / "q.tflite").exists()


def test_open_sizes_are_given(tmp_path, capsys):
    path = quantised.case(tmp_path / "q.onnx", "plain", "u8s8 per channel")
    model = onnx.load(path)
    for i, dim in enumerate(model.graph.input[0].type.tensor_type.shape.dim):
        if i != 1:
            dim.dim_param = f"d{i}"
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    del model.graph.value_info[:]
    onnx.save(model, path)
    out = str(tmp_path / "q.tflite")
    assert cli.main(["convert", str(path), "--tflite", out]) == 2
    assert "is open; export the model with fixed sizes" in capsys.readouterr().err
    assert cli.main(["convert", str(path), "--tflite", out, "--input-size", "17x14"]) == 0
    assert "LiteRT agrees with ONNX Runtime on" in capsys.readouterr().out


def test_a_wrong_file_is_not_written(tmp_path, monkeypatch):
    from activsparse.litert import emit_quantised

    path = quantised.case(tmp_path / "q.onnx", "residual", "u8s8 per channel")
    monkeypatch.setitem(emit_quantised._RULES, "Add", emit_quantised._RULES["Mul"])
    monkeypatch.setattr(
        emit_quantised.schema.BuiltinOperator, "ADD", emit_quantised.schema.BuiltinOperator.SUB
    )
    monkeypatch.setattr(emit_quantised.schema, "AddOptionsT", emit_quantised.schema.SubOptionsT)
    with pytest.raises(ActivsparseError, match="please report this model"):
        litert.convert(path, tmp_path / "q.tflite")
    assert not (tmp_path / "q.tflite").exists()


@pytest.mark.parametrize(
    ("damage", "message"),
    [("zero points", "scales and 3 zero points"), ("no sizes", "size of '.*' is open")],
)
def test_damaged_files_are_one_line(tmp_path, damage, message):
    path = quantised.case(tmp_path / "q.onnx", "plain", "u8s8 per channel")
    model = onnx.load(path)
    if damage == "zero points":
        wide = {i.name for i in model.graph.initializer if len(i.dims) == 4}
        weight = next(
            node
            for node in model.graph.node
            if node.op_type == "DequantizeLinear" and node.input[0] in wide
        )
        zero = next(i for i in model.graph.initializer if i.name == weight.input[2])
        dtype = numpy_helper.to_array(zero).dtype
        zero.CopyFrom(numpy_helper.from_array(np.zeros(3, dtype), zero.name))
    else:
        model.graph.input[0].type.tensor_type.ClearField("shape")
    onnx.save(model, path)
    with pytest.raises(ActivsparseError, match=message):
        litert.convert(path, tmp_path / "q.tflite")
    assert not (tmp_path / "q.tflite").exists()
