"""Files that `activsparse convert` writes, in LiteRT, against their originals in ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from activsparse import ActivsparseError, cli

pytest.importorskip("ai_edge_litert")

from activsparse.litert import convert


def check(model: Path, out: Path) -> list[str]:
    """Convert with the comparison on; return the operators' names."""
    from ai_edge_litert import schema_py_generated as schema

    result = convert(model, out)
    assert result.errors
    assert all(error.holds for error in result.errors)
    assert out.stat().st_size == result.bytes
    graph = schema.Model.GetRootAs(out.read_bytes(), 0)
    names = {v: k for k, v in vars(schema.BuiltinOperator).items() if k.isupper()}
    codes = [graph.OperatorCodes(i).BuiltinCode() for i in range(graph.OperatorCodesLength())]
    operators = graph.Subgraphs(0)
    return [
        names[codes[operators.Operators(i).OpcodeIndex()]]
        for i in range(operators.OperatorsLength())
    ]


@pytest.mark.parametrize(
    ("name", "site", "fill"),
    [
        ("resnet18", "", ""),
        ("resnet18", "norm", "zero"),
        ("resnet18", "conv", "zero"),
        ("resnet18", "norm", "nearest"),
        ("mobilenet_v2", "", ""),
        ("mobilenet_v2", "norm", "zero"),
    ],
)
def test_networks(exported, tmp_path: Path, name: str, site: str, fill: str) -> None:
    operators = check(exported(name, site, fill), tmp_path / "out.tflite")
    masks = operators.count("MUL"), operators.count("GATHER")
    layers = {"resnet18": 19, "mobilenet_v2": 51}[name]
    assert masks == {"": (0, 0), "zero": (layers, 0), "nearest": (0, layers)}[fill]


def save(path: Path, nodes: list[onnx.NodeProto], shapes: tuple, constants: dict) -> Path:
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shapes[0])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shapes[1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), path)
    return path


def test_random_convolutions(tmp_path: Path) -> None:
    """Kernels, strides, pads, dilations, groups and activations; every draw is one model."""
    for seed in range(12):
        rng = np.random.default_rng(seed)
        group = int(rng.choice([1, 1, 2, 8]))
        kernel = [int(k) for k in rng.integers(1, 4, 2)]
        stride, dilation = int(rng.integers(1, 3)), int(rng.integers(1, 3))
        if stride > 1:
            dilation = 1
        pads = [int(p) for p in rng.integers(0, 3, 4)]
        size = [int(s) for s in rng.integers(8, 14, 2)]
        out = [
            (s + pads[i] + pads[i + 2] - (k - 1) * dilation - 1) // stride + 1
            for i, (s, k) in enumerate(zip(size, kernel, strict=True))
        ]
        weight = rng.standard_normal((16, 8 // group, *kernel)).astype(np.float32)
        act = str(rng.choice(["Relu", "HardSwish", "Sigmoid", "LeakyRelu", "Tanh"]))
        nodes = [
            helper.make_node(
                "Conv", ["x", "w"], ["c"], "conv", strides=[stride] * 2, pads=pads, group=group,
                dilations=[dilation] * 2,
            ),
            helper.make_node("Mul", ["c", "mask"], ["m"]),
            helper.make_node(act, ["m"], ["a"]),
            helper.make_node("MaxPool", ["a"], ["y"], kernel_shape=[2, 2], pads=[1, 0, 0, 1]),
        ]  # fmt: skip
        mask = (rng.random((1, 1, *out)) > 0.3).astype(np.float32)
        shapes = [1, 8, *size], [1, 16, *out]
        model = save(tmp_path / "m.onnx", nodes, shapes, {"w": weight, "mask": mask})
        assert check(model, tmp_path / "m.tflite"), (seed, group, kernel, stride, dilation, pads)


def test_other_operators(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    nodes = [
        helper.make_node("AveragePool", ["x"], ["a"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Clip", ["a", "lo", "hi"], ["b"]),
        helper.make_node("Concat", ["a", "b"], ["c"], axis=1),
        helper.make_node("Resize", ["c", "", "scales"], ["r"], mode="nearest",
                         coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("Gemm", ["f", "w"], ["g"], "fc", transB=1),
        helper.make_node("Softmax", ["g"], ["y"], axis=1),
    ]  # fmt: skip
    constants = {
        "lo": np.array(-0.5, np.float32),
        "hi": np.array(2, np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
        "w": rng.standard_normal((5, 6 * 8 * 8)).astype(np.float32) * 0.05,
    }
    model = save(tmp_path / "m.onnx", nodes, ([1, 3, 8, 8], [1, 5]), constants)
    operators = check(model, tmp_path / "m.tflite")
    assert {"CONCATENATION", "RESIZE_NEAREST_NEIGHBOR", "FULLY_CONNECTED"} <= set(operators)


def test_what_goes_wrong_is_said(sparse: Path, tmp_path: Path, capsys) -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], "turned", perm=[0, 1, 3, 2]),
        helper.make_node("Relu", ["t"], ["y"]),
    ]
    model = save(tmp_path / "m.onnx", nodes, ([1, 3, 4, 8], [1, 3, 8, 4]), {})
    with pytest.raises(ActivsparseError, match="'turned'"):
        convert(model, tmp_path / "m.tflite")
    assert not (tmp_path / "m.tflite").exists()
    assert cli.main(["convert", str(sparse), "--tflite", str(tmp_path / "no" / "x.tflite")]) == 2
    assert cli.main(["convert", str(sparse), "--tflite", str(tmp_path / "x.tflite")]) == 0
    assert "agrees" in capsys.readouterr().out
