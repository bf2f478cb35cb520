"""Files as exporters other than torch's write them: `verify` holds, masked too."""

from __future__ import annotations

import graphs
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from activsparse.cli import main


def tensorflow(b):
    """tf2onnx: images of channels last, pads by name, norms spelled out behind transpositions."""
    b.inputs.append(helper.make_tensor_value_info("input_1:0", 1, ["unk__6", 16, 16, 3]))
    b.shapes["input_1:0"] = (1, 16, 16, 3)
    x = b.node("Transpose", "input_1:0", perm=[0, 3, 1, 2], shape=(1, 3, 16, 16))
    kernel = b.node("Transpose", b.constant(b.normal(3, 3, 3, 8)), perm=[3, 2, 0, 1], shape=())
    x = b.node("Conv", x, kernel, auto_pad="SAME_UPPER", strides=[2, 2], shape=(1, 8, 8, 8))
    x = b.node("Transpose", x, perm=[0, 2, 3, 1], shape=(1, 8, 8, 8))
    x = b.node("Mul", x, b.constant(b.uniform(8)))
    x = b.node("Relu", b.node("Add", x, b.constant(b.normal(8))))
    x = b.node("Transpose", x, perm=[0, 3, 1, 2], shape=(1, 8, 8, 8))
    x = b.node("Conv", x, b.constant(b.normal(8, 8, 3, 3)), auto_pad="SAME_LOWER")
    x = b.node("ThresholdedRelu", x, alpha=1.0)
    x = b.node("Pad", x, b.constant(np.array([0, 0, 0, 0, 0, 0, 1, 1])), shape=(1, 8, 9, 9))
    x = b.node("Conv", x, b.constant(b.normal(8, 8, 3, 3)), auto_pad="VALID", strides=[2, 2])
    b.shapes[x] = (1, 8, 4, 4)
    x = b.node("ReduceMean", b.node("Transpose", x, perm=[0, 2, 3, 1]), axes=[1, 2], keepdims=0)
    return b.node("Softmax", b.node("MatMul", x, b.constant(b.normal(8, 5))))


def paddle(b):
    """paddle2onnx: open sizes, hard swish in parts, the size of a resize from that of the input."""
    x = b.input("DynamicDimension.0", 3, "DynamicDimension.1", "DynamicDimension.2")
    b.shapes[x] = (1, 3, 16, 24)

    def swish(x):
        y = b.node("Add", x, b.constant(np.float32(3)))
        y = b.node("Clip", y, b.constant(np.float32(0)), b.constant(np.float32(6)))
        return b.node("Div", b.node("Mul", x, y), b.constant(np.float32(6)))

    y = swish(b.norm(b.conv(x, 8, strides=(2, 2))))
    gate = b.node("GlobalAveragePool", y, shape=(1, 8, 1, 1))
    gate = b.node("HardSigmoid", b.conv(gate, 8, (1, 1), pads=(0, 0, 0, 0)), alpha=0.2, beta=0.5)
    y = b.node("Mul", y, gate)
    y = b.node("Add", y, swish(b.norm(b.conv(y, 8))))

    def part(of, start, end):
        bounds = (b.constant(np.array([start])), b.constant(np.array([end])))
        return b.node("Slice", b.node("Shape", of), *bounds)

    size = b.node("Concat", part(y, 0, 2), part(x, 2, 4), axis=0)
    empty = b.constant(np.zeros(0, np.float32))
    return b.node("Sigmoid", b.node("Resize", y, empty, empty, size, mode="linear"))


def mxnet(b):
    """mxnet: inputs made small, slopes per channel, norms before convolutions and at the end."""
    x = b.input(1, 3, 16, 16, name="data")
    x = b.node(
        "Mul", b.node("Sub", x, b.constant(np.float32([127.5]))), b.constant(np.float32([0.01]))
    )
    x = b.node("PRelu", b.norm(b.conv(x, 8, bias=False)), b.constant(b.uniform(8, 1, 1)))
    y = b.norm(b.conv(b.norm(x), 8, bias=False))
    x = b.node("Add", b.node("Dropout", y, ratio=0.4), x)
    x = b.node("LRN", b.node("Relu", b.conv(x, 8)), size=5, alpha=1e-4, beta=0.75)
    x = b.node("Flatten", x, shape=(1, 2048))
    return b.norm(b.gemm(x, 5))


def darknet(b):
    """Darknet's networks of before opset 9: scales as attributes, and values joined."""
    first = b.node("LeakyRelu", b.norm(b.conv(b.input(1, 3, 16, 16), 8, bias=False)), alpha=0.1)
    x = b.node("MaxPool", first, kernel_shape=[2, 2], strides=[2, 2], shape=(1, 8, 8, 8))
    x = b.node("LeakyRelu", b.norm(b.conv(x, 8, bias=False)), alpha=0.1)
    x = b.node("Upsample", x, scales=[1.0, 1.0, 2.0, 2.0], shape=(1, 8, 16, 16))
    return b.conv(
        b.node("Concat", x, first, axis=1, shape=(1, 16, 16, 16)), 6, (1, 1), pads=(0,) * 4
    )


EXPORTERS = {
    "darknet": (darknet, 7),
    "tensorflow": (tensorflow, 13),
    "paddle": (paddle, 11),
    "mxnet": (mxnet, 7),
}


@pytest.mark.parametrize("constants", ["are inputs", "of an old file are none", "are none"])
@pytest.mark.parametrize("exporter", EXPORTERS)
def test_verify_and_mask(tmp_path, capsys, exporter, constants):
    write, opset = EXPORTERS[exporter]
    b = graphs.Builder(len(exporter), opset)
    path = b.save(tmp_path / "m.onnx", write(b))
    model = onnx.load(path)
    model.ir_version = 9 if constants == "are none" else 3
    if constants == "are inputs":
        for value in model.graph.initializer:
            described = helper.make_tensor_value_info(value.name, value.data_type, value.dims)
            model.graph.input.append(described)
    onnx.save(model, path)
    masked = str(tmp_path / "masked.onnx")
    sizes = {"paddle": ["--input-shape", "x=1x3x16x24"], "tensorflow": ["--batch", "1"]}
    options = sizes.get(exporter, [])
    assert main(["info", str(path)]) == 0
    assert main(["verify", str(path), *options]) == 0, capsys.readouterr()
    assert main(["mask", str(path), "--sparsity", "0.3", "--out", masked, *options]) == 0
    assert main(["verify", masked, *options]) == 0, capsys.readouterr()


def test_a_result_noted_with_a_wrong_size_does_not_size_its_mask(tmp_path):
    b = graphs.Builder(3)
    x = b.conv(b.conv(b.input(1, 3, 14, 12), 8), 8)
    b.nodes.append(helper.make_node("Relu", [x], ["y"]))
    b.shapes["y"] = (1, 8, 14, 12)
    path = b.save(tmp_path / "m.onnx", "y")
    model = onnx.load(path)
    end = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 8, 7, 6])
    model.graph.output[0].CopyFrom(end)
    model.graph.node.pop()  # the convolution itself is the result
    model.graph.node[-1].output[0] = "y"
    onnx.save(model, path)
    masked = str(tmp_path / "masked.onnx")
    assert main(["mask", str(path), "--sparsity", "0.3", "--include-head", "--out", masked]) == 0
    assert main(["verify", masked]) == 0


@pytest.mark.parametrize("op", ["Conv", "MatMul"])
def test_weights_to_compute_with_in_bfloat16(tmp_path, capsys, op):
    b = graphs.Builder(4, opset=22)
    x = b.node("Cast", b.input(1, 3, 8, 8), to=TensorProto.BFLOAT16)
    kernel = (4, 3, 3, 3) if op == "Conv" else (8, 4)
    w = helper.make_tensor("w", TensorProto.BFLOAT16, kernel, b.normal(*kernel).reshape(-1))
    b.constants.append(w)
    path = b.save(tmp_path / "m.onnx", b.node("Cast", b.node(op, x, "w"), to=1))
    for fallback in ([], ["--fallback", "onnxruntime"]):
        assert main(["verify", str(path), *fallback]) == 2
        said = capsys.readouterr().err
        assert f"({op}) computes in bfloat16" in said, said


def test_weights_stored_in_bfloat16(tmp_path):
    b = graphs.Builder(5, opset=13)
    x = b.input(1, 3, 8, 8)
    w = helper.make_tensor("w", TensorProto.BFLOAT16, (4, 3, 3, 3), b.normal(108).reshape(-1))
    b.constants.append(w)
    b.shapes["w"] = (4, 3, 3, 3)
    path = b.save(tmp_path / "m.onnx", b.node("Conv", x, b.node("Cast", "w", to=1)))
    assert main(["verify", str(path)]) == 0
