"""Int8 .tflite files by the delegate, held to LiteRT's own reference kernels."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
import onnx
import pytest
import quantised
from litert_moves import MOVES
from numpy.typing import NDArray

pytest.importorskip("ai_edge_litert")

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from activsparse import ActivsparseError, litert
from activsparse.engine.exact import ExactModel
from activsparse.engine.verify import OutputError
from activsparse.engine.verify_quantised import ExactReference
from activsparse.litert.writer import Scales, Writer

try:
    litert.delegate_path()
except ActivsparseError:
    pytest.skip("the delegate is not built (make native)", allow_module_level=True)

REFERENCE = {"experimental_op_resolver_type": OpResolverType.BUILTIN_REF}
ALONE = {"experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}

Int8 = NDArray[np.int8]


class File:
    """A model of int8 values; what each of them stands for is chosen at random."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.writer, self.count = Writer(), 0
        self.shapes: dict[int, tuple[int, ...]] = {}
        self.scales: dict[int, Scales] = {}

    def one_of(self, *choices: Any) -> Any:
        return choices[int(self.rng.integers(len(choices)))]

    def any_scales(self) -> Scales:
        return Scales((float(self.rng.uniform(0.01, 0.06)),), (int(self.rng.integers(-128, 128)),))

    def value(self, shape: tuple[int, ...], scales: Scales | None = None) -> int:
        self.count += 1
        scales = scales or self.any_scales()
        tensor = self.writer.value(f"v{self.count}", shape, scales)
        self.shapes[tensor], self.scales[tensor] = shape, scales
        return tensor

    def real(self, shape: tuple[int, ...]) -> int:
        self.count += 1
        tensor = self.writer.value(f"v{self.count}", shape)
        self.shapes[tensor] = shape
        return tensor

    def constant(self, array: NDArray[Any], scales: Scales | None = None) -> int:
        self.count += 1
        return self.writer.constant(f"c{self.count}", array, scales)

    def add(
        self,
        op: str,
        inputs: list[int],
        shape: tuple[int, ...],
        options: Any = None,
        scales: Scales | None = None,
        version: int = 2,
    ) -> int:
        y = self.value(shape, scales)
        self.writer.operator(op, inputs, [y], options, version)
        return y

    def like(
        self, op: str, x: int, options: Any = None, scales: Scales | None = None, version: int = 2
    ) -> int:
        return self.add(op, [x], self.shapes[x], options, scales, version)

    def weights(
        self, shape: tuple[int, ...], axis: int, x: int, each: bool = True
    ) -> tuple[int, int, Scales]:
        """A weight, a bias, and scales of a result that uses most of its range."""
        out, products = shape[axis], int(np.prod(shape)) // shape[axis]
        weight = self.rng.integers(-127, 128, shape).astype(np.int8)
        bias = self.rng.integers(-3000, 3000, out).astype(np.int32)
        scale = self.rng.uniform(0.001, 0.003, out if each else 1)
        (of_x,) = self.scales[x].scale
        zeros = (0,) * len(scale)
        spread = 73 * 74 * np.sqrt(products) * scale.mean() * of_x
        result = Scales((float(spread / 40),), self.any_scales().zero)
        return (
            self.constant(weight, Scales(tuple(scale.tolist()), zeros, axis if each else 0)),
            self.constant(bias, Scales(tuple((scale * of_x).tolist()), zeros)),
            result,
        )

    def conv(
        self,
        x: int,
        out: int,
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        dilation: tuple[int, int] = (1, 1),
        same: bool = True,
        fused: int = 0,
        depthwise: bool = False,
        scales: Scales | None = None,
        each: bool = True,
    ) -> int:
        n, h, w, c = self.shapes[x]
        options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
        options.strideH, options.strideW = stride
        options.dilationHFactor, options.dilationWFactor = dilation
        options.padding = 0 if same else 1
        options.fusedActivationFunction = fused
        shape = (1, *kernel, out) if depthwise else (out, *kernel, c)
        if depthwise:
            options.depthMultiplier = out // c
        weight, offset, result = self.weights(shape, 3 if depthwise else 0, x, each)
        sizes = []
        for size, k, s, d in zip((h, w), kernel, stride, dilation, strict=True):
            reach = size if same else size - (k - 1) * d
            sizes.append(-(-reach // s))
        return self.add(
            "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
            [x, weight, offset],
            (n, *sizes, out),
            options,
            scales or result,
            3,
        )

    def mask(self, x: int, kept: NDArray[Any], scales: Scales | None = None) -> int:
        of_mask = scales or Scales((1.0,), (0,))
        (scale,), (zero,) = of_mask.scale, of_mask.zero
        steps = np.rint(kept / scale + zero).astype(np.int8)[None, :, :, None]
        inputs = [x, self.constant(steps, of_mask)]
        if self.rng.random() < 0.5:
            inputs.reverse()
        return self.add("MUL", inputs, self.shapes[x], schema.MulOptionsT(), self.scales[x])

    def sum_of(self, a: int, b: int, fused: int = 0) -> int:
        options = schema.AddOptionsT()
        options.fusedActivationFunction = fused
        (left,), (right,) = self.scales[a].scale, self.scales[b].scale
        scales = Scales((left + right,), self.any_scales().zero)
        return self.add("ADD", [a, b], self.shapes[a], options, scales)

    def holes(self, x: int, dropped: float = 0.4) -> NDArray[Any]:
        _, h, w, _ = self.shapes[x]
        kept = self.rng.random((h, w)) > dropped
        kept[0, 0] = True
        return kept

    def save(self, path: Path, x: int, *outputs: int) -> Path:
        path.write_bytes(self.writer.finish([x], outputs))
        return path


def given(interpreter: Any, seed: int = 0) -> Int8:
    (detail,) = interpreter.get_input_details()
    rng, shape = np.random.default_rng(seed), detail["shape"]
    if detail["dtype"] == np.float32:
        return rng.standard_normal(shape).astype(np.float32)
    return rng.integers(0, 256, shape).astype(np.uint8).view(detail["dtype"])


def results(interpreter: Any, x: NDArray[Any]) -> list[NDArray[Any]]:
    (detail,) = interpreter.get_input_details()
    interpreter.set_tensor(detail["index"], x)
    interpreter.invoke()
    return [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]


def ours(path: Path, threads: int = 1) -> Any:
    """An interpreter that nobody but the delegate takes operators from."""
    return litert.interpreter(path, threads=threads, tune=False, **ALONE)


def reference(path: Path) -> Any:
    interpreter = Interpreter(str(path), **REFERENCE)
    interpreter.allocate_tensors()
    return interpreter


def agree(path: Path, context: str, steps: int = 1) -> list[Int8]:
    """Our outputs, each at most `steps` from LiteRT's; everything is claimed."""
    oracle, interpreter = reference(path), ours(path)
    details = interpreter._get_ops_details()
    assert sum(d["op_name"] == "DELEGATE" for d in details) == 1, context
    x = given(oracle)
    found = results(interpreter, x)
    for y, z in zip(results(oracle, x), found, strict=True):
        assert y.dtype == z.dtype, context
        worst = np.abs(y.astype(np.float64) - z).max()
        assert worst <= steps, f"{context}: {worst} steps apart"
    return found


@pytest.mark.parametrize("seed", range(16))
def test_convolutions(tmp_path: Path, seed: int) -> None:
    f = File(seed)
    depthwise = bool(seed % 2)
    c = int(f.one_of(1, 3, 4, 8, 20, 32, 70))
    x = f.value((int(f.one_of(1, 1, 2)), *(int(i) for i in f.rng.integers(7, 18, 2)), c))
    k = f.one_of((1, 1), (3, 3), (5, 5), (3, 5), (7, 7))
    how = {
        "kernel": k,
        "stride": f.one_of((1, 1), (2, 2), (1, 2)),
        "same": bool(f.rng.random() < 0.6 or k == (7, 7)),
        "fused": int(f.one_of(0, 1, 2, 3)),
        "each": bool(f.rng.random() < 0.8),
        "depthwise": depthwise,
    }
    if how["stride"] == (1, 1) and f.rng.random() < 0.3 and max(k) < 7:
        how["dilation"] = (1, 2) if not depthwise else (2, 2)
    out = c * int(f.one_of(1, 1, 2)) if depthwise else int(f.one_of(1, 5, 16, 40, 67))
    y = f.conv(x, out, **how)
    agree(f.save(tmp_path / "m.tflite", x, y), f"seed {seed}, {f.shapes[x]} to {out}, {how}")


@pytest.mark.parametrize("seed", range(4))
def test_fully_connected(tmp_path: Path, seed: int) -> None:
    f = File(seed)
    inputs, out = (int(i) for i in f.rng.integers(1, 200, 2))
    x = f.value((int(f.one_of(1, 3)), 4, 4, inputs))
    options = schema.ReducerOptionsT()
    n = f.shapes[x][0]
    axes = f.constant(np.array([1, 2], np.int32))
    flat = f.add("MEAN", [x, axes], (n, inputs), options)
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = int(f.one_of(0, 1, 3))
    weight, bias, scales = f.weights((out, inputs), 0, flat, each=False)
    y = f.add("FULLY_CONNECTED", [flat, weight, bias], (n, out), options, scales, 4)
    # LiteRT rounds the mean, whose step counts for several behind it.
    path = f.save(tmp_path / "m.tflite", x, y, f.conv(x, 3))
    agree(path, f"seed {seed}, {inputs} to {out}", steps=6)


def alone(f: File, x: int, y: int, tmp_path: Path, context: str) -> list[Int8]:
    """One operator beside a convolution, without which nothing is claimed."""
    return agree(f.save(tmp_path / "m.tflite", x, y, f.conv(x, 3)), context)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("average", [False, True])
def test_pools(tmp_path: Path, seed: int, average: bool) -> None:
    f = File(seed)
    x = f.value((1, *(int(i) for i in f.rng.integers(6, 14, 2)), int(f.one_of(3, 16, 37))))
    options = schema.Pool2DOptionsT()
    options.filterHeight, options.filterWidth = k = f.one_of((2, 2), (3, 3), (3, 2))
    options.strideH, options.strideW = s = f.one_of((1, 1), (2, 2))
    options.padding = int(f.one_of(0, 1))
    options.fusedActivationFunction = int(f.one_of(0, 0, 1, 3))
    n, *size, c = f.shapes[x]
    sizes = [
        -(-(i if options.padding == 0 else i - a + 1) // b)
        for i, a, b in zip(size, k, s, strict=True)
    ]
    op = "AVERAGE_POOL_2D" if average else "MAX_POOL_2D"
    y = f.add(op, [x], (n, *sizes, c), options, f.scales[x])
    alone(f, x, y, tmp_path, f"seed {seed}, {f.shapes[x]} by {k}, {s}")


def mean(f: File, x: int) -> int:
    n, _, _, c = f.shapes[x]
    options = schema.ReducerOptionsT()
    options.keepDims = True
    return f.add("MEAN", [x, f.constant(np.array([1, 2], np.int32))], (n, 1, 1, c), options)


def pad(f: File, x: int) -> int:
    n, h, w, c = f.shapes[x]
    amounts = f.constant(np.array([[0, 0], [1, 2], [0, 3], [0, 0]], np.int32))
    return f.add("PAD", [x, amounts], (n, h + 3, w + 3, c), schema.PadOptionsT(), f.scales[x])


def pad_least(f: File, x: int) -> int:
    """Before a maximum, as `activsparse convert` writes it."""
    n, h, w, c = f.shapes[x]
    amounts = f.constant(np.array([[0, 0], [1, 1], [1, 1], [0, 0]], np.int32))
    least = f.constant(np.array([-128], np.int8), f.scales[x])
    inputs = [x, amounts, least]
    y = f.add("PADV2", inputs, (n, h + 2, w + 2, c), schema.PadV2OptionsT(), f.scales[x])
    options = schema.Pool2DOptionsT()
    options.filterHeight = options.filterWidth = 3
    options.strideH = options.strideW = options.padding = 1
    return f.add("MAX_POOL_2D", [y], (n, h, w, c), options, f.scales[x])


def pad_average(f: File, x: int) -> int:
    n, h, w, c = f.shapes[x]
    options = schema.Pool2DOptionsT()
    options.filterHeight = options.filterWidth = 3
    options.strideH = options.strideW = options.padding = 1
    return f.add("AVERAGE_POOL_2D", [pad(f, x)], (n, h + 1, w + 1, c), options, f.scales[x])


def pad_conv(f: File, x: int) -> int:
    return f.conv(pad(f, x), 9, (3, 3), (2, 2), same=False)


def image_as_residual(f: File, x: int) -> int:
    """An image of a few channels that nobody but a convolution of another value reads."""
    image = f.like("QUANTIZE", x, schema.QuantizeOptionsT())
    return f.sum_of(f.conv(f.conv(x, 5), f.shapes[x][3]), image)


def join(f: File, x: int) -> int:
    n, h, w, c = f.shapes[x]
    options = schema.ConcatenationOptionsT()
    options.axis = 3
    other = f.conv(x, 5, scales=f.scales[x])
    return f.add("CONCATENATION", [x, other], (n, h, w, c + 5), options, f.scales[x])


def product(f: File, x: int) -> int:
    (scale,) = f.scales[x].scale
    gate = f.like("RELU", x, scales=f.scales[x])
    options = schema.MulOptionsT()
    scales = Scales((scale * scale * 60,), (5,))
    return f.add("MUL", [x, gate], f.shapes[x], options, scales)


def leaky(f: File, x: int) -> int:
    options = schema.LeakyReluOptionsT()
    options.alpha = 0.1
    return f.like("LEAKY_RELU", x, options)


def behind(move: Callable[[File, int], int]) -> Callable[[File, int], int]:
    """A move whose result is masked, changed in scale, or added to itself."""

    def make(f: File, x: int) -> int:
        y = move(f, f.conv(x, 6, depthwise=f.shapes[x][3] == 3, fused=int(f.one_of(0, 1))))
        masked, rescaled = f.rng.random(2) < 0.5
        if masked:
            y = f.mask(y, f.holes(y))
        if rescaled:  # to wider steps, lest one step off becomes several
            wider = Scales((1.5 * f.scales[y].scale[0],), f.any_scales().zero)
            return f.like("QUANTIZE", y, schema.QuantizeOptionsT(), wider)
        return f.sum_of(y, y) if f.rng.random() < 0.3 else y

    return make


OTHERS: dict[str, Callable[[File, int], int]] = {
    "mean": mean,
    "pad": pad,
    "pad before a maximum": pad_least,
    "pad before an average": pad_average,
    "pad before a convolution": pad_conv,
    "joined": join,
    "product": product,
    "sum": lambda f, x: f.sum_of(x, f.conv(x, f.shapes[x][3]), int(f.one_of(0, 1, 3))),
    "twice": lambda f, x: f.sum_of(x, x),
    "rescaled": lambda f, x: f.like("QUANTIZE", x, schema.QuantizeOptionsT()),
    "relu": lambda f, x: f.like("RELU", x),
    "relu6": lambda f, x: f.like("RELU6", x),
    "leaky": leaky,
    "sigmoid": lambda f, x: f.like("LOGISTIC", x, scales=Scales((1 / 256,), (-128,))),
    "tanh": lambda f, x: f.like("TANH", x, scales=Scales((1 / 128,), (0,))),
    "hardswish": lambda f, x: f.like("HARD_SWISH", x, schema.HardSwishOptionsT(), version=1),
    "mask": lambda f, x: f.mask(x, f.holes(x)),
    "mask of 255 steps": lambda f, x: f.mask(x, f.holes(x), Scales((1 / 255,), (-128,))),
    **MOVES,
    **{f"{name} behind a convolution": behind(move) for name, move in MOVES.items()},
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", OTHERS)
def test_others(tmp_path: Path, name: str, seed: int) -> None:
    f = File(seed)
    x = f.value((1, *(int(i) for i in f.rng.integers(3, 12, 2)), int(f.one_of(3, 8, 21))))
    alone(f, x, OTHERS[name](f, x), tmp_path, f"{name}, seed {seed}, {f.shapes[x]}")


def test_an_image_may_be_a_residual(tmp_path: Path) -> None:
    """And is not the input that brings its padding along. A step off in each of three layers."""
    f = File(0)
    x = f.value((1, 9, 8, 3))
    path = f.save(tmp_path / "m.tflite", x, image_as_residual(f, x))
    agree(path, "residual", steps=4)


def test_uint8_beside_int8(tmp_path: Path) -> None:
    """As files of older converters take their images."""
    for c in (3, 16):
        f = File(c)
        x = f.value((1, 9, 8, c), Scales((0.02,), (120,)))
        y = f.conv(f.like("QUANTIZE", x, schema.QuantizeOptionsT()), 6)
        z = f.like("QUANTIZE", y, schema.QuantizeOptionsT(), Scales(f.scales[y].scale, (99,)))
        path = f.save(tmp_path / "m.tflite", x, z)

        def unsigned(model: Any, ends: tuple[int, ...] = (x, z)) -> None:
            for tensor in ends:
                model.subgraphs[0].tensors[tensor].type = schema.TensorType.UINT8

        agree(changed(path, unsigned), f"{c} channels", steps=2)


def test_numbers_at_the_borders(tmp_path: Path) -> None:
    """Float32 in and out, as `activsparse convert` writes it."""
    f = File(0)
    for c in (3, 16):
        x = f.real((1, 9, 8, c))
        q = f.add("QUANTIZE", [x], f.shapes[x], schema.QuantizeOptionsT(), version=1)
        y = f.conv(q, 6)
        z = f.real(f.shapes[y])
        f.writer.operator("DEQUANTIZE", [y], [z], schema.DequantizeOptionsT(), 2)
        path = f.save(tmp_path / f"{c}.tflite", x, z)
        oracle, step = reference(path), f.scales[y].scale[0]
        x_of = given(oracle)
        (expected,), (found,) = results(oracle, x_of), results(ours(path), x_of)
        assert np.abs(expected - found).max() <= 1.01 * step
        f = File(c)


@pytest.mark.parametrize("apart", [False, True])
def test_layers_of_both_types(tmp_path: Path, apart: bool) -> None:
    """Are one part, or two where LiteRT has to compute what is between them."""
    f = File(0)
    x = f.real((1, 9, 8, 8))
    options = schema.Conv2DOptionsT()
    options.strideH = options.strideW = options.dilationHFactor = options.dilationWFactor = 1
    weight = f.constant(f.rng.standard_normal((16, 3, 3, 8)).astype(np.float32) / 9)
    bias, y = f.constant(np.zeros(16, np.float32)), f.real((1, 9, 8, 16))
    f.writer.operator("CONV_2D", [x, weight, bias], [y], options)
    values = [y]
    if apart:
        values.append(f.real(f.shapes[y]))
        softmax = schema.SoftmaxOptionsT()
        softmax.beta = 1.0
        f.writer.operator("SOFTMAX", [y], values[-1:], softmax)
    narrow = Scales((1 / 255,), (-128,)) if apart else Scales((0.03,), (5,))
    q = f.add("QUANTIZE", values[-1:], f.shapes[y], schema.QuantizeOptionsT(), narrow, 1)
    z = f.conv(f.mask(f.conv(q, 12, fused=1), f.rng.random((9, 8)) > 0.3), 6)
    last = f.real(f.shapes[z])
    f.writer.operator("DEQUANTIZE", [z], [last], schema.DequantizeOptionsT(), 2)
    path = f.save(tmp_path / "m.tflite", x, last)
    oracle, interpreter = reference(path), ours(path)
    parts = [d for d in interpreter._get_ops_details() if d["op_name"] == "DELEGATE"]
    assert len(parts) == 1 + apart
    given_x = given(oracle)
    (expected,), (found,) = results(oracle, given_x), results(interpreter, given_x)
    # A first step off counts for several behind two convolutions.
    assert np.abs(expected - found).max() <= 6.1 * f.scales[z].scale[0]
    assert np.abs(expected - found).mean() <= 0.5 * f.scales[z].scale[0]


def test_masks_drop_what_others_compute(tmp_path: Path) -> None:
    """To the byte: kept positions hold what they hold without a mask, others the zero point."""
    for seed in range(6):
        found, kept = [], None
        for masked in (False, True):
            f = File(seed)
            x = f.value((1, 11, 9, 16))
            depthwise = seed % 2 == 1
            y = f.conv(x, 16 if depthwise else 24, depthwise=depthwise, fused=seed % 3 % 2)
            kept = f.holes(y)
            if masked:
                y = f.mask(y, kept)
            path = f.save(tmp_path / "m.tflite", x, y)
            found += agree(path, f"seed {seed}, masked {masked}")
            (zero,) = f.scales[y].zero
        assert kept is not None
        np.testing.assert_array_equal(found[1], np.where(kept[None, :, :, None], found[0], zero))


def network(f: File, x: int) -> list[int]:
    """Masked convolutions of all sorts, one behind the other; all values."""
    values = []

    def keep(value: int) -> int:
        values.append(value)
        return value

    y = keep(f.conv(x, 16, fused=1))
    for _ in range(3):
        before = y
        y = keep(f.conv(y, 32, (1, 1), fused=int(f.one_of(1, 3))))
        y = keep(f.mask(y, f.holes(y)))
        y = keep(f.conv(y, 32, f.one_of((3, 3), (5, 5)), depthwise=True, fused=1))
        y = keep(f.mask(y, f.holes(y)))
        y = keep(f.conv(y, 16, f.one_of((1, 1), (3, 3))))
        y = keep(f.mask(y, f.holes(y)))
        y = keep(f.sum_of(y, before, int(f.one_of(0, 1))))
    return values


@pytest.mark.parametrize("seed", range(4))
def test_what_is_joined_gives_the_same(tmp_path: Path, seed: int) -> None:
    """As the operators one by one, which they are where each one's result is a result."""
    found = []
    for whole in (True, False):
        f = File(seed)
        x = f.value((1, 13, 10, 3))
        values = network(f, x)
        path = f.save(tmp_path / f"{whole}.tflite", x, *(values[-1:] if whole else values))
        found.append(results(ours(path, threads=1 + seed % 2), given(reference(path)))[-1])
    # A sum of three roundings may lie next to half way between two steps.
    apart = np.abs(found[0].astype(int) - found[1])
    assert apart.max() <= 2, f"seed {seed}"
    assert (apart > 0).mean() < 0.01, f"seed {seed}"


_FAST = ("u8s8 per channel", "s8s8 symmetric", "nncf", "pt2e")
CASES = [
    pytest.param(name, style, marks=[] if style in _FAST or name == "masked" else pytest.mark.slow)
    for name, style in quantised.cases()
    if not quantised.STYLES[style].operators
]


@pytest.mark.parametrize(("name", "style"), CASES)
def test_converted_networks_are_near_exact_arithmetic(
    tmp_path: Path, name: str, style: str
) -> None:
    """Judged as `activsparse convert` judges LiteRT: choices within half a step of a boundary."""
    path = quantised.case(tmp_path / "q.onnx", name, style, seed=1)
    litert.convert(path, tmp_path / "q.tflite", verify=False)
    model = onnx.load(path)
    (feed,) = quantised.images(model, 7, 1)
    (x,) = feed.values()
    (span,) = ExactModel(path).run(feed).values()
    truth = span.low.astype(np.float32)
    (y,) = results(ours(tmp_path / "q.tflite"), np.ascontiguousarray(x.transpose(0, 2, 3, 1)))
    y = y.transpose(0, 3, 1, 2) if y.ndim == 4 else y
    rows = [OutputError.of(model.graph.output[0].name, y, truth, [])]
    (row,) = ExactReference(path).decide(feed, rows, [y], [truth], [], 0.5)
    assert row.holds, f"{row.max_abs_err:.3g} of {row.bound:.3g}, {row.problem}"


def test_nearest_fills_of_converted_networks_are_claimed(tmp_path: Path) -> None:
    path = quantised.case(tmp_path / "q.onnx", "filled", "u8s8 per channel", seed=2)
    litert.convert(path, tmp_path / "q.tflite", verify=False)
    left = [d["op_name"] for d in ours(tmp_path / "q.tflite")._get_ops_details()]
    whole = Interpreter(str(tmp_path / "q.tflite"), **REFERENCE)
    assert left[len(whole._get_ops_details()) :] == ["DELEGATE"]


def damage_scale(value: float) -> Callable[[Any], None]:
    def change(quantisation: Any) -> None:
        quantisation.scale = [value] * len(quantisation.scale)

    return change


def damage_zero(value: int) -> Callable[[Any], None]:
    def change(quantisation: Any) -> None:
        quantisation.zeroPoint = [value] * len(quantisation.zeroPoint)

    return change


def two_scales(quantisation: Any) -> None:
    quantisation.scale, quantisation.zeroPoint = [0.1, 0.2], [0, 0]


def another_axis(quantisation: Any) -> None:
    quantisation.quantizedDimension = 1


def nothing(quantisation: Any) -> None:
    quantisation.scale = quantisation.zeroPoint = None


def no_zero(quantisation: Any) -> None:
    quantisation.zeroPoint = None


DAMAGES: dict[str, Callable[[Any], None]] = {
    "no scale": nothing,
    "no zero point": no_zero,
    "a negative scale": damage_scale(-0.1),
    "a scale of nothing": damage_scale(0.0),
    "a scale that is no number": damage_scale(float("nan")),
    "an infinite scale": damage_scale(float("inf")),
    "a huge scale": damage_scale(3e38),
    "a tiny scale": damage_scale(1e-44),
    "a zero point that is no int8": damage_zero(200),
    "a huge zero point": damage_zero(2**40),
    "two scales": two_scales,
    "another axis": another_axis,
}


def damaged(path: Path, name: str, damage: Callable[[Any], None]) -> Path:
    """The file with other parameters on the tensor of that name."""

    def change(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if tensor.name.decode() == name:
                damage(tensor.quantization)

    return changed(path, change)


def changed(path: Path, change: Callable[[Any], None]) -> Path:
    """The file after a change of the schema's objects."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(builder.Output())
    return path


# Each file in a process of its own, as LiteRT may end one; they are forked from one that has
# imported all.
RUN = """
import os
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from activsparse import litert

def run(path):
    kind = {"experimental_op_resolver_type": OpResolverType.BUILTIN_REF}
    if sys.argv[1] == "ours":
        interpreter = litert.interpreter(path, tune=False, **kind)
    else:
        interpreter = Interpreter(path, **kind)
        interpreter.allocate_tensors()
    (detail,) = interpreter.get_input_details()
    shape = detail["shape"]
    x = np.random.default_rng(0).integers(-128, 128, shape).astype(detail["dtype"])
    interpreter.set_tensor(detail["index"], x)
    interpreter.invoke()
    outputs = [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
    np.savez(path + "." + sys.argv[1], *outputs)

for path in sys.argv[2:]:
    child = os.fork()
    if child == 0:
        code = 1
        try:
            run(path)
            code = 0
        except (RuntimeError, ValueError):
            pass
        finally:
            os._exit(code)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def test_damaged_parameters_are_left_to_litert(tmp_path: Path) -> None:
    """Which has the same to say about them: a result, an error, or an end of its own."""
    files = []
    for name, change in DAMAGES.items():
        for tensor in ("v1", "c2", "c3", "v4", "c5"):
            f = File(0)
            x = f.value((1, 6, 6, 8))
            y = f.conv(x, 8)
            path = f.save(tmp_path / f"{name}, {tensor}", x, f.mask(y, f.holes(y)), f.sum_of(x, y))
            files.append(str(damaged(path, tensor, change)))
    ends = {}
    for who in ("ours", "theirs"):
        words = [sys.executable, "-c", RUN, who, *files]
        ran = subprocess.run(words, capture_output=True, text=True, check=True)
        ends[who] = [int(line) for line in ran.stdout.split()]
    for path, own, other in zip(files, ends["ours"], ends["theirs"], strict=True):
        assert own == other, path
        if own != 0:
            continue
        found, expected = (np.load(f"{path}.{who}.npz") for who in ("ours", "theirs"))
        for key in expected.files:
            apart = np.abs(found[key].astype(int) - expected[key]).max()
            assert apart <= 1, f"{path}: {apart} steps apart"


def test_values_of_16_bits_are_left_to_litert(tmp_path: Path) -> None:
    def widen(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if tensor.name.startswith(b"v"):
                tensor.type, tensor.quantization.zeroPoint = schema.TensorType.INT16, [0]
            elif len(tensor.shape) == 1:
                data = np.asarray(model.buffers[tensor.buffer].data, np.uint8).view(np.int32)
                model.buffers[tensor.buffer].data = data.astype(np.int64).view(np.uint8)
                tensor.type = schema.TensorType.INT64

    f = File(0)
    x = f.value((1, 6, 6, 8))
    path = changed(f.save(tmp_path / "m.tflite", x, f.conv(x, 8)), widen)
    interpreter = ours(path)
    assert [d["op_name"] for d in interpreter._get_ops_details()] == ["CONV_2D"]
    x_of = np.random.default_rng(0).integers(-3000, 3000, (1, 6, 6, 8)).astype(np.int16)
    np.testing.assert_array_equal(results(interpreter, x_of)[0], results(reference(path), x_of)[0])


def test_weights_with_zero_points_are_left_to_litert(tmp_path: Path) -> None:
    """LiteRT's fully connected layers have some."""
    f = File(0)
    x = f.value((1, 4, 4, 8))
    axes = f.constant(np.array([1, 2], np.int32))
    flat = f.add("MEAN", [x, axes], (1, 8), schema.ReducerOptionsT())
    weight = f.constant(f.rng.integers(-127, 128, (5, 8)).astype(np.int8), Scales((0.01,), (3,)))
    bias = f.constant(np.zeros(5, np.int32), Scales((0.01 * f.scales[flat].scale[0],), (0,)))
    options = schema.FullyConnectedOptionsT()
    y = f.add("FULLY_CONNECTED", [flat, weight, bias], (1, 5), options, version=4)
    interpreter = ours(f.save(tmp_path / "m.tflite", x, y, f.conv(x, 3)))
    parts = [d for d in interpreter._get_ops_details() if d["op_name"] == "DELEGATE"]
    assert parts
    assert all(weight not in part["inputs"] for part in parts)
