"""Bad input: one line that names the file or node, the cause and the remedy."""

import graphs
import numpy as np
import onnx
import pytest

from activsparse import ActivsparseError, Session


@pytest.fixture
def b():
    return graphs.Builder()


def refused(path, **options) -> str:
    with pytest.raises(ActivsparseError) as caught:
        Session(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_missing_file(tmp_path):
    assert "no such file" in refused(tmp_path / "none.onnx")


@pytest.mark.parametrize("content", [b"", b"hello world" * 50, b"\x08\x07"])
def test_not_onnx(tmp_path, content):
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    assert "x.onnx" in refused(path)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
def test_truncated_file(tmp_path, b, share):
    path = b.save(tmp_path / "m.onnx", b.conv(b.input(1, 3, 8, 8), 8))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "m.onnx" in refused(path)


def test_missing_external_data(tmp_path, b):
    path = b.save(tmp_path / "m.onnx", b.conv(b.input(1, 3, 8, 8), 64))
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="w.bin", size_threshold=0)
    Session(path)
    (tmp_path / "w.bin").unlink()
    assert "w.bin" in refused(path)


def test_external_data_outside_the_folder(tmp_path, b):
    (tmp_path / "secret").write_bytes(bytes(1 << 16))
    (tmp_path / "sub").mkdir()
    path = b.save(tmp_path / "sub" / "m.onnx", b.conv(b.input(1, 3, 8, 8), 64))
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    model = onnx.load(path, load_external_data=False)
    for tensor in model.graph.initializer:
        tensor.external_data[0].value = "../secret"
    onnx.save(model, path)
    assert "external data" in refused(path)


def test_unknown_operator(tmp_path, b):
    path = b.save(tmp_path / "m.onnx", b.node("Sinh", b.input(1, 3, 8, 8)))
    message = refused(path)
    assert "n_v0_sinh" in message
    assert "Sinh" in message


def test_operator_that_does_not_exist(tmp_path, b):
    path = b.save(tmp_path / "m.onnx", b.node("Frobnicate", b.input(1, 3, 8, 8)))
    assert "Frobnicate" in refused(path)


def test_foreign_domain(tmp_path, b):
    path = b.save(tmp_path / "m.onnx", b.node("Relu", b.input(1, 3, 8, 8), domain="com.acme"))
    assert "com.acme" in refused(path)


@pytest.mark.parametrize("opset", [6, 4000])
def test_opset(tmp_path, opset):
    b = graphs.Builder(opset=opset)
    path = b.save(tmp_path / "m.onnx", b.node("Relu", b.input(1, 3, 8, 8)))
    assert str(opset) in refused(path)


def test_open_batch_becomes_one(tmp_path, b):
    path = b.save(tmp_path / "m.onnx", b.conv(b.input("n", 3, 8, 8), 8))
    assert Session(path).inputs == [("x", (1, 3, 8, 8))]
    session = Session(path, input_shapes={"x": (3, 3, 8, 8)})
    assert session.outputs[0][1] == (3, 8, 8, 8)


def test_open_size_needs_input_shapes(tmp_path, b):
    b.shapes["x"] = (1, 3, 8, 8)
    b.input("n", 3, "h", "w")
    b.shapes["x"] = (1, 3, 8, 8)
    path = b.save(tmp_path / "m.onnx", b.conv("x", 8))
    message = refused(path)
    assert "'x'" in message
    assert "input_shapes" in message
    assert Session(path, input_shapes={"x": (2, 3, 9, 7)}).outputs[0][1] == (2, 8, 9, 7)


@pytest.mark.parametrize(
    "shapes", [{"y": (1, 3, 8, 8)}, {"x": (1, 4, 8, 8)}, {"x": (1, 3, 8)}, {"x": (0, 3, 8, 8)}]
)
def test_impossible_input_shapes(tmp_path, b, shapes):
    path = b.save(tmp_path / "m.onnx", b.conv(b.input("n", 3, 8, 8), 8))
    refused(path, input_shapes=shapes)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.5, -1.0])
def test_masks_hold_zeros_and_ones(tmp_path, b, value):
    mask = np.ones((1, 1, 8, 8), np.float32)
    mask[0, 0, 2, 3] = value
    x = b.conv(b.input(1, 3, 8, 8), 8)
    path = b.save(tmp_path / "m.onnx", b.node("Mul", x, b.constant(mask, "c.activation_mask")))
    assert "c.activation_mask" in refused(path)


def test_fill_outside_the_plane(tmp_path, b):
    x = b.conv(b.input(1, 3, 8, 8), 8)
    path = b.save(tmp_path / "m.onnx", b.gather(x, np.full(64, 64)))
    assert "64 positions" in refused(path)


def test_nan_weights(tmp_path, b):
    b.normal = lambda *shape: np.full(shape, np.nan, np.float32)
    path = b.save(tmp_path / "m.onnx", b.conv(b.input(1, 3, 8, 8), 8))
    assert "weight" in refused(path)


@pytest.mark.parametrize("kind", ["STRING", "BFLOAT16", "COMPLEX64", "INT4"])
def test_inputs_of_types_float32_does_not_hold(tmp_path, b, kind):
    path = b.save(tmp_path / "m.onnx", b.conv(b.input(1, 3, 8, 8), 8))
    model = onnx.load(path)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DataType.Value(kind)
    onnx.save(model, path)
    assert f"is {kind.lower()}, not float32" in refused(path)


def test_undefined_value(tmp_path, b):
    b.input(1, 3, 8, 8)
    path = b.save(tmp_path / "m.onnx", b.node("Relu", "nowhere", shape=(1,)))
    assert "nowhere" in refused(path)


@pytest.mark.parametrize(
    "options", [{"isa": "mmx"}, {"threads": 0}, {"algorithm": "magic"}], ids=str
)
def test_impossible_options(tmp_path, b, options):
    path = b.save(tmp_path / "m.onnx", b.conv(b.input(1, 3, 8, 8), 8))
    refused(path, **options)


def test_isa_from_the_environment(tmp_path, b, monkeypatch):
    path = b.save(tmp_path / "m.onnx", b.conv(b.input(1, 3, 8, 8), 8))
    monkeypatch.setenv("ACTIVSPARSE_ISA", "scalar")
    assert Session(path).isa == "scalar"
    monkeypatch.setenv("ACTIVSPARSE_ISA", "mmx")
    assert Session(path, isa="scalar").isa == "scalar"
    refused(path)


@pytest.mark.parametrize(
    "x",
    [
        np.zeros((1, 3, 8, 9), np.float32),
        np.zeros((1, 3, 8, 8)),
        {},
        {"z": np.zeros((1, 3, 8, 8), np.float32)},
    ],
)
def test_wrong_arguments_of_run(tmp_path, b, x):
    session = Session(b.save(tmp_path / "m.onnx", b.conv(b.input(1, 3, 8, 8), 8)))
    with pytest.raises(ActivsparseError, match="'x'"):
        session.run(x)
