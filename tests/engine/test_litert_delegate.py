"""LiteRT with the delegate against LiteRT as it is, which knows nothing of masks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import pytest
from graphs import Builder

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate

from activsparse import ActivsparseError, litert

try:
    litert.delegate_path()
except ActivsparseError:
    pytest.skip("the delegate is not built (make native)", allow_module_level=True)


def invoke(interpreter: Any, x: np.ndarray) -> np.ndarray:
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def plain(path: Path) -> Any:
    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    return interpreter


def image(interpreter: Any, seed: int = 0) -> np.ndarray:
    shape = interpreter.get_input_details()[0]["shape"]
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# Nobody but the delegate takes operators out of the model then.
ALONE = {"experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}


def claims(interpreter: Any) -> list[Any]:
    """The nodes that stand for claimed parts; of an interpreter made with ALONE."""
    return [node for node in interpreter._get_ops_details() if node["op_name"] == "DELEGATE"]


@pytest.mark.parametrize(
    ("name", "site", "fill"),
    [
        ("resnet18", "", ""),
        ("resnet18", "norm", "zero"),
        ("resnet18", "conv", "zero"),
        ("mobilenet_v2", "", ""),
        ("resnet18", "norm", "nearest"),
        ("resnet18", "conv", "nearest"),
        ("mobilenet_v2", "norm", "zero"),
        ("mobilenet_v2", "norm", "nearest"),
    ],
)
def test_networks(exported, tmp_path: Path, name: str, site: str, fill: str) -> None:
    model = tmp_path / "m.tflite"
    (check,) = litert.convert(exported(name, site, fill), model).errors
    oracle = plain(model)
    x = image(oracle)
    expected = invoke(oracle, x)
    for threads in (1, 2):
        interpreter = litert.interpreter(model, threads=threads, tune=False, **ALONE)
        (claimed,) = claims(interpreter)
        assert interpreter.get_input_details()[0]["index"] in claimed["inputs"]
        assert interpreter.get_output_details()[0]["index"] in claimed["outputs"]
        for _ in range(2):
            assert np.abs(invoke(interpreter, x) - expected).max() <= check.bound


def test_measured_choices(exported, tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    (check,) = litert.convert(exported("resnet18", "norm", "zero"), model).errors
    oracle = plain(model)
    x = image(oracle)
    y = invoke(litert.interpreter(model), x)
    assert np.abs(y - invoke(oracle, x)).max() <= check.bound


def random_network(seed: int, path: Path) -> Path:
    """Convolutions of all sorts with masks, residuals and activations; some LiteRT must keep."""
    b = Builder(seed)
    rng = b.rng
    channels, size = int(rng.choice([3, 8, 20])), int(rng.integers(9, 20))
    x = b.input(1, channels, size, size)
    for _ in range(int(rng.integers(2, 6))):
        _, c, h, _ = b.shapes[x]
        kernel, stride = int(rng.choice([1, 2, 3, 5])), int(rng.choice([1, 1, 2]))
        group = c if rng.random() < 0.3 else 1
        out = c if group > 1 or rng.random() < 0.5 else int(rng.choice([5, 16, 24]))
        low, high = (int(p) for p in rng.integers(0, kernel // 2 + 1, 2))
        if (h + low + high - kernel) // stride < 2:
            break
        y = b.conv(x, out, (kernel, kernel), (stride, stride), (low, low, high, high), group=group)
        _, _, oh, ow = b.shapes[y]
        if rng.random() < 0.6:
            y = b.mask(y)
        if b.shapes[x] == b.shapes[y] and x != b.inputs[0].name:
            y = b.node("Add", x, y)
        y = b.node(str(rng.choice(["Relu", "Relu", "HardSwish", "Sigmoid", "Tanh"])), y)
        if rng.random() < 0.2 and min(oh, ow) > 4:
            shape = (1, out, (oh + 1) // 2, (ow + 1) // 2)
            y = b.node("MaxPool", y, shape=shape, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
        x = y
    b.save(path, x)
    return path


@pytest.mark.parametrize("seed", range(20))
def test_random_networks(tmp_path: Path, seed: int) -> None:
    source, model = random_network(seed, tmp_path / "m.onnx"), tmp_path / "m.tflite"
    (check,) = litert.convert(source, model).errors
    oracle = plain(model)
    interpreter = litert.interpreter(model, tune=bool(seed % 2), **(ALONE if seed % 3 else {}))
    assert claims(interpreter)
    x = image(oracle, seed)
    assert np.abs(invoke(interpreter, x) - invoke(oracle, x)).max() <= check.bound


def wide_block(path: Path, kernel: int, stem: bool, masked: bool) -> Path:
    """An inverted residual too large for the cache, behind the model's input or a convolution."""
    b = Builder(kernel)
    mask = b.mask if masked else lambda value: value
    if stem:
        y = b.node("Relu", mask(b.conv(b.input(1, 3, 130, 130), 40, strides=(2, 2))))
        y = b.node("Relu", mask(b.conv(y, 40, group=40)))
        y = mask(b.conv(y, 16, (1, 1), pads=(0, 0, 0, 0)))
    else:
        x = b.conv(b.input(1, 3, 60, 60), 16)
        y = b.node("Clip", mask(b.conv(x, 96, (1, 1), pads=(0, 0, 0, 0))), *bounds(b))
        y = b.node("Relu", mask(b.conv(y, 96, (kernel, kernel), pads=(kernel // 2,) * 4, group=96)))
        y = b.node("Add", mask(b.conv(y, 16, (1, 1), pads=(0, 0, 0, 0))), x)
    return b.save(path, b.conv(y, 8))


def bounds(b: Builder) -> tuple[str, str]:
    return b.constant(np.float32(0)), b.constant(np.float32(6))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("stem", "kernel"), [(False, 3), (False, 5), (True, 3)])
def test_wide_inverted_residuals(tmp_path: Path, stem: bool, kernel: int, masked: bool) -> None:
    source = wide_block(tmp_path / "m.onnx", kernel, stem, masked)
    (check,) = litert.convert(source, tmp_path / "m.tflite").errors
    oracle = plain(tmp_path / "m.tflite")
    x = image(oracle, 1)
    expected = invoke(oracle, x)
    for threads in (1, 2):
        y = invoke(litert.interpreter(tmp_path / "m.tflite", threads=threads), x)
        assert np.abs(y - expected).max() <= check.bound


def test_skipped_positions_are_not_computed(tmp_path: Path) -> None:
    """What a skipped position would have to read is not a number, and nobody notices."""
    b = Builder(0)
    x = b.input(1, 16, 8, 8)
    mask = (b.rng.random((1, 1, 8, 8)) > 0.3).astype(np.float32)
    y = b.node("Mul", b.conv(x, 32, (1, 1), pads=(0, 0, 0, 0)), b.constant(mask))
    b.save(tmp_path / "m.onnx", y)
    litert.convert(tmp_path / "m.onnx", tmp_path / "m.tflite")
    interpreter = litert.interpreter(tmp_path / "m.tflite")
    x = image(interpreter)
    x[:, mask[0, 0] == 0] = np.nan
    y = invoke(interpreter, x)
    assert np.isfinite(y).all()
    assert (y[:, mask[0, 0] == 0] == 0).all()


def test_two_interpreters_at_once(exported, tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    litert.convert(exported("resnet18", "norm", "zero"), model, verify=False)
    interpreters = [litert.interpreter(model, threads=threads, tune=False) for threads in (1, 2)]
    delegate = load_delegate(str(litert.delegate_path()), {"tune": "0"})
    for _ in range(2):  # two that share a delegate
        interpreters.append(Interpreter(str(model), experimental_delegates=[delegate]))
        interpreters[-1].allocate_tensors()
    x = image(interpreters[0])
    expected = invoke(interpreters[0], x)
    with ThreadPoolExecutor(4) as callers:
        results = callers.map(lambda it: [invoke(it, x) for _ in range(4)], interpreters)
        assert all(np.array_equal(y, expected) for ys in results for y in ys)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"threads": "0"}, "whole number from 1"),
        ({"threads": "2x"}, "whole number from 1"),
        ({"tune": "maybe"}, "give 1"),
        ({"colour": "red"}, "'colour': there is none"),
    ],
)
def test_odd_options(options: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_delegate(str(litert.delegate_path()), options)


def edited(path: Path, change: Any) -> Path:
    """The same file after `change` was applied to the schema's objects."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    out = path.with_suffix(".edited.tflite")
    out.write_bytes(builder.Output())
    return out


def masked_pair(tmp_path: Path) -> Path:
    b = Builder(0)
    x = b.input(1, 8, 10, 10)
    mask = (b.rng.random((1, 1, 10, 10)) > 0.3).astype(np.float32)
    y = b.node("Relu", b.node("Mul", b.conv(x, 16), b.constant(mask)))
    b.save(tmp_path / "m.onnx", b.conv(y, 8))
    litert.convert(tmp_path / "m.onnx", tmp_path / "m.tflite")
    return tmp_path / "m.tflite"


def open_batch(model: Any) -> None:
    for tensor in model.subgraphs[0].tensors:
        if model.buffers[tensor.buffer].data is None:
            tensor.shapeSignature = [-1, *tensor.shape[1:]]


def test_dynamic_shapes_are_left_to_others(tmp_path: Path) -> None:
    model = edited(masked_pair(tmp_path), open_batch)
    assert not claims(litert.interpreter(model, **ALONE))
    oracle, interpreter = plain(model), litert.interpreter(model)
    x = np.random.default_rng(0).standard_normal((3, 10, 10, 8)).astype(np.float32)
    results = []
    for it in (oracle, interpreter):
        it.resize_tensor_input(it.get_input_details()[0]["index"], x.shape)
        it.allocate_tensors()
        results.append(invoke(it, x))
    np.testing.assert_array_equal(*results)


@pytest.mark.parametrize("shape", [(2, 10, 10, 8), (1, 5, 20, 8)])
def test_resizing_a_fixed_model_is_an_error(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """To as many bytes of another shape as well."""
    interpreter = litert.interpreter(masked_pair(tmp_path))
    index = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(index, shape)
    with pytest.raises(RuntimeError, match="has been resized"):
        interpreter.allocate_tensors()
    with pytest.raises(ActivsparseError, match="no such file"):
        litert.interpreter(tmp_path / "none.tflite")


def test_the_library_is_small() -> None:
    assert litert.delegate_path().stat().st_size < 1_370_000
