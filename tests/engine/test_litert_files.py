"""Files as other converters write them, by the delegate against LiteRT alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import Builder
from numpy.typing import NDArray

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType, load_delegate
from litert_moves import MOVES

from activsparse import ActivsparseError, litert
from activsparse.litert.writer import Writer

try:
    litert.delegate_path()
except ActivsparseError:
    pytest.skip("the delegate is not built (make native)", allow_module_level=True)

ALONE = {"experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}


class File:
    """A model of one image, its weights in float32 or in float16 that the file widens."""

    def __init__(self, seed: int, half: bool = False) -> None:
        self.rng = np.random.default_rng(seed)
        self.writer, self.half, self.count = Writer(), half, 0
        self.shapes: dict[int, tuple[int, ...]] = {}

    def value(self, *shape: int) -> int:
        self.count += 1
        tensor = self.writer.value(f"v{self.count}", shape)
        self.shapes[tensor] = shape
        return tensor

    def constant(self, array: NDArray[Any], half: bool | None = None) -> int:
        self.count += 1
        if array.dtype != np.float32 or not (self.half if half is None else half):
            return self.writer.constant(f"c{self.count}", array)
        narrow = self.writer.constant(f"c{self.count}", array.astype(np.float16))
        wide = self.value(*array.shape)
        self.writer.operator("DEQUANTIZE", [narrow], [wide], schema.DequantizeOptionsT(), 3)
        return wide

    def weights(self, *shape: int) -> NDArray[np.float32]:
        return self.rng.standard_normal(shape).astype(np.float32) / np.float32(3)

    def add(self, op: str, inputs: list[int], shape: tuple[int, ...], options: Any = None) -> int:
        y = self.value(*shape)
        self.writer.operator(op, inputs, [y], options)
        return y

    def conv(self, x: int, out: int, kernel: int = 3, weight: int | None = None) -> int:
        n, h, w, c = self.shapes[x]
        options = schema.Conv2DOptionsT()
        options.strideH = options.strideW = 1
        options.dilationHFactor = options.dilationWFactor = 1
        if weight is None:
            weight = self.constant(self.weights(out, kernel, kernel, c))
        bias = self.constant(self.weights(out))
        return self.add("CONV_2D", [x, weight, bias], (n, h, w, out), options)

    def save(self, path: Path, x: int, *outputs: int) -> Path:
        path.write_bytes(self.writer.finish([x], outputs))
        return path


def agree(path: Path, tolerance: float = 2e-5) -> tuple[list[str], list[str]]:
    """Compare with LiteRT alone; the operators of the file, and those it is left with."""
    oracle = Interpreter(str(path), **ALONE)
    oracle.allocate_tensors()
    detail = oracle.get_input_details()[0]
    x = np.random.default_rng(1).standard_normal(detail["shape"]).astype(np.float32)
    names = [node["op_name"] for node in oracle._get_ops_details()]
    left: list[str] = []
    for threads in (1, 2):
        ours = litert.interpreter(path, threads=threads, tune=False, **ALONE)
        for interpreter in (oracle, ours):
            interpreter.set_tensor(detail["index"], x)
            interpreter.invoke()
            interpreter.invoke()
        left = [node["op_name"] for node in ours._get_ops_details()][len(names) :]
        for output in oracle.get_output_details():
            expected, actual = (i.get_tensor(output["index"]) for i in (oracle, ours))
            assert np.abs(actual - expected).max() <= tolerance * max(1, np.abs(expected).max())
    return names, left


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_prelu_behind_convolutions(tmp_path, seed, half):
    f = File(seed, half)
    x = f.value(1, 9, 11, 5)
    y = f.conv(x, 7)
    slopes = [(7,), (1, 1, 7), (1,), (1, 1, 1, 7)][seed]
    y = f.add("PRELU", [y, f.constant(f.weights(*slopes))], f.shapes[y])
    y = f.conv(y, 6)
    names, left = agree(f.save(tmp_path / "m.tflite", x, y))
    assert left == ["DELEGATE"]
    assert ("DEQUANTIZE" in names) == half


def test_prelu_converted_from_onnx(tmp_path):
    b = Builder(0)
    x = b.input(1, 3, 12, 12)
    y = b.node("PRelu", b.conv(x, 6), b.constant(b.normal(6, 1, 1)))
    b.save(tmp_path / "m.onnx", b.node("PRelu", b.conv(y, 5), b.constant(b.normal(5, 1, 1))))
    litert.convert(tmp_path / "m.onnx", tmp_path / "m.tflite")
    names, left = agree(tmp_path / "m.tflite")
    assert names.count("PRELU") == 2
    assert left == ["DELEGATE"]


def test_leaky_relu(tmp_path):
    f = File(0)
    x = f.value(1, 9, 11, 5)
    options = schema.LeakyReluOptionsT()
    options.alpha = 0.3
    y = f.add("LEAKY_RELU", [f.conv(x, 7)], (1, 9, 11, 7), options)
    assert agree(f.save(tmp_path / "m.tflite", x, f.conv(y, 4)))[1] == ["DELEGATE"]


@pytest.mark.parametrize("least", [False, True])
def test_paddings_beyond_a_window(tmp_path, least):
    """A window that sees nothing but padding has a mean, and a maximum."""
    f = File(0)
    x = f.value(1, 8, 8, 6)
    amounts = f.constant(np.array([[0, 0], [1, 2], [0, 3], [0, 0]], np.int32))
    constants = [amounts, f.constant(np.array([np.finfo(np.float32).min]))] if least else [amounts]
    options = schema.PadV2OptionsT() if least else schema.PadOptionsT()
    y = f.add("PADV2" if least else "PAD", [f.conv(x, 6), *constants], (1, 11, 11, 6), options)
    options = schema.Pool2DOptionsT()
    options.filterHeight = options.filterWidth = 3
    options.strideH = options.strideW = options.padding = 1
    y = f.add("MAX_POOL_2D" if least else "AVERAGE_POOL_2D", [y], (1, 9, 9, 6), options)
    assert agree(f.save(tmp_path / "m.tflite", x, y))[1] == ["DELEGATE"]


@pytest.mark.parametrize("more", [1, 4, 16, 21])
def test_channels_of_zeros_before_an_addition(tmp_path, more):
    f = File(more)
    x = f.value(1, 8, 8, 16)
    y = f.conv(x, 16 + more)
    amounts = f.constant(np.array([[0, 0]] * 3 + [[0, more]], np.int32))
    wide = f.add("PAD", [f.conv(x, 16), amounts], (1, 8, 8, 16 + more), schema.PadOptionsT())
    y = f.add("ADD", [y, wide], (1, 8, 8, 16 + more), schema.AddOptionsT())
    assert agree(f.save(tmp_path / "m.tflite", x, f.conv(y, 3)))[1] == ["DELEGATE"]


@pytest.mark.parametrize("amounts", [[[0, 0], [1, 1], [1, 1], [0, 2]], [[0, 0]] * 3 + [[2, 0]]])
def test_other_pads_of_channels_are_left_to_others(tmp_path, amounts):
    f = File(0)
    x = f.value(1, 8, 8, 16)
    sizes = [size + sum(pair) for size, pair in zip((1, 8, 8, 16), amounts, strict=True)]
    pads = f.constant(np.array(amounts, np.int32))
    y = f.add("PAD", [f.conv(x, 16), pads], tuple(sizes), schema.PadOptionsT())
    assert "PAD" in agree(f.save(tmp_path / "m.tflite", x, f.conv(y, 3)))[0]


@pytest.mark.parametrize("size", [(14, 6), (7, 3), (5, 9), (1, 1), (21, 21)])
@pytest.mark.parametrize(("corners", "centers"), [(False, False), (True, False), (False, True)])
def test_bilinear_sizes(tmp_path, size, corners, centers):
    f = File(sum(size))
    x = f.value(1, 7, 3, 4)
    options = schema.ResizeBilinearOptionsT()
    options.alignCorners, options.halfPixelCenters = corners, centers
    shape = (1, *size, 6)
    y = f.add(
        "RESIZE_BILINEAR", [f.conv(x, 6), f.constant(np.array(size, np.int32))], shape, options
    )
    assert agree(f.save(tmp_path / "m.tflite", x, f.conv(y, 3)))[1] == ["DELEGATE"]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", MOVES)
def test_moves_of_pixels(tmp_path, name, seed):
    """Between convolutions, with an activation, a mask or a residual behind."""
    f = File(seed)
    x = f.value(1, *(int(i) for i in f.rng.integers(3, 12, 2)), 5)
    y = MOVES[name](f, f.conv(x, 7))
    if seed == 0:
        y = f.add("RELU", [y], f.shapes[y])
    elif seed == 1:
        mask = (f.rng.random((1, *f.shapes[y][1:3], 1)) < 0.5).astype(np.float32)
        y = f.add("MUL", [y, f.constant(mask)], f.shapes[y], schema.MulOptionsT())
    else:
        y = f.add("ADD", [y, y], f.shapes[y], schema.AddOptionsT())
    path = f.save(tmp_path / "m.tflite", x, f.conv(y, 4), f.conv(y, 3, kernel=1))
    assert agree(path)[1] == ["DELEGATE"]


@pytest.mark.parametrize("op", ["ADD", "MUL", "PRELU", "PAD", "CONV_2D", "RESIZE_BILINEAR"])
@pytest.mark.parametrize("at", [0, 1])
def test_an_operand_left_out_is_no_crash(tmp_path, op, at):
    """The file is damaged: whoever runs the operator may refuse it."""
    f = File(0)
    x = f.value(1, 8, 8, 6)
    y = f.conv(x, 6)
    inputs = [y, f.conv(x, 6)]
    inputs[at] = -1
    options = {"ADD": schema.AddOptionsT, "MUL": schema.MulOptionsT, "PAD": schema.PadOptionsT}
    y = f.add(op, inputs, (1, 8, 8, 6), options.get(op, lambda: None)())
    path = f.save(tmp_path / "m.tflite", x, f.conv(y, 4))
    with pytest.raises(ActivsparseError, match="LiteRT cannot run it"):
        litert.interpreter(path, tune=False, **ALONE)


def test_widened_weights_that_others_read_too(tmp_path):
    """An operator left to LiteRT reads them, and a convolution behind it, in another part."""
    f = File(3, half=True)
    x = f.value(1, 8, 8, 6)
    shared = f.constant(f.weights(6, 3, 3, 6))
    y = f.conv(x, 6, weight=shared)
    y = f.add("COS", [y], f.shapes[y])
    y = f.conv(y, 6, weight=shared)
    also = f.add("COS", [shared], (6, 3, 3, 6))
    _, left = agree(f.save(tmp_path / "m.tflite", x, y, also))
    assert left.count("DELEGATE") == 2


def test_widened_weights_of_several_parts(tmp_path):
    f = File(4, half=True)
    x = y = f.value(1, 8, 8, 6)
    weights = [f.constant(f.weights(6, 3, 3, 6)) for _ in range(3)]
    for weight in weights:
        y = f.conv(y, 6, weight=weight)
        y = f.add("COS", [y], f.shapes[y])
    _, left = agree(f.save(tmp_path / "m.tflite", x, f.conv(y, 2)))
    assert left.count("DELEGATE") == 4


def test_two_files_of_one_delegate_keep_their_weights(tmp_path):
    """Interpreters that share a delegate number their tensors alike; each has its own constants."""
    delegate = load_delegate(str(litert.delegate_path()), {"threads": "1", "tune": "0"})
    pairs = []
    for seed in (5, 6):
        f = File(seed, half=True)
        x = f.value(1, 8, 8, 6)
        path = str(f.save(tmp_path / f"{seed}.tflite", x, f.conv(f.conv(x, 6), 6)))
        both = (
            Interpreter(path, **ALONE),
            Interpreter(path, experimental_delegates=[delegate], **ALONE),
        )
        for interpreter in both:
            interpreter.allocate_tensors()
        pairs.append(both)
    image = np.random.default_rng(1).standard_normal((1, 8, 8, 6)).astype(np.float32)
    for pair in pairs:
        results = []
        for interpreter in pair:
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
            interpreter.invoke()
            results.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
        assert np.abs(results[0] - results[1]).max() <= 2e-5 * np.abs(results[0]).max()
