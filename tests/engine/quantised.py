"""Small quantised networks, as users have them: by ONNX Runtime's quantiser, NNCF's and torch's.

`ZOO` lists float networks, `STYLES` the ways to quantise them; `case(path, network, style, seed)`
writes one. NNCF's and torch's forms are written by hand (`Hand`): those packages are large, and
what matters is which nodes they leave.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import graphs
import numpy as np
import onnx
from onnx import helper, numpy_helper, shape_inference

IMAGES = 8


@dataclass(frozen=True)
class Style:
    """How a network is quantised.

    `by` is `onnxruntime` or one of the forms of `Hand`.
    """

    by: str = "onnxruntime"
    activations: str = "uint8"
    weights: str = "int8"
    per_channel: bool = True
    operators: bool = False
    percentile: bool = False
    reduce_range: bool = False
    opset: int = 18
    extra: dict[str, Any] = field(default_factory=dict)


STYLES = {
    "u8s8 per channel": Style(),
    "u8s8 per tensor": Style(per_channel=False),
    "u8s8 percentile": Style(percentile=True),
    "s8s8 per channel": Style(activations="int8"),
    "s8s8 symmetric": Style(activations="int8", extra={"ActivationSymmetric": True}),
    "u8u8 per tensor": Style(weights="uint8", per_channel=False),
    "opset 13": Style(opset=13),
    "opset 19": Style(opset=19),
    "opset 21": Style(opset=21, activations="int8"),
    "operators u8s8": Style(operators=True),
    "operators s8s8": Style(operators=True, activations="int8", reduce_range=True),
    "operators u8u8": Style(operators=True, weights="uint8", per_channel=False),
    "opset 10 by hand": Style("nncf", per_channel=False, opset=10),
    "nncf": Style("nncf", opset=13),
    "nncf opset 21": Style("nncf", opset=21),
    "nncf s8": Style("nncf", activations="int8", opset=13),
    "pt2e": Style("pt2e", activations="int8", opset=18),
    "pt2e u8": Style("pt2e", opset=18),
}


def plain(b: graphs.Builder) -> list[str]:
    x = b.conv(b.input(1, 3, 17, 14), 16)
    x = b.node("Relu", x)
    x = b.node("Relu", b.conv(x, 24, strides=(2, 2)))
    return [b.conv(x, 8, (1, 1), pads=(0, 0, 0, 0))]


def residual(b: graphs.Builder) -> list[str]:
    x = b.node("Relu", b.conv(b.input(1, 3, 12, 13), 16))
    y = b.node("Relu", b.conv(x, 16))
    y = b.node("Relu", b.node("Add", b.conv(y, 16), x))
    shortcut = b.conv(y, 24, (1, 1), (2, 2), (0, 0, 0, 0))
    return [b.node("Add", b.conv(y, 24, strides=(2, 2)), shortcut)]


def inverted(b: graphs.Builder) -> list[str]:
    x = graphs.activation(b, b.conv(b.input(1, 3, 16, 15), 8), "relu6")
    y = graphs.activation(b, b.conv(x, 24, (1, 1), pads=(0, 0, 0, 0)), "relu6")
    y = graphs.activation(b, b.conv(y, 24, group=24), "relu6")
    y = b.node("Add", b.conv(y, 8, (1, 1), pads=(0, 0, 0, 0)), x)
    y = graphs.activation(b, b.conv(y, 32, (1, 1), pads=(0, 0, 0, 0)), "relu6")
    y = b.conv(y, 32, (5, 5), (2, 2), (2, 2, 2, 2), group=32)
    return [b.conv(graphs.activation(b, y, "relu6"), 13, (1, 1), pads=(0, 0, 0, 0))]


def classifier(b: graphs.Builder) -> list[str]:
    x = b.node("Relu", b.conv(b.input(1, 3, 18, 18), 16, (7, 7), (2, 2), (3, 3, 3, 3)))
    x = b.node("MaxPool", x, shape=(1, 16, 5, 5), kernel_shape=(3, 3), strides=(2, 2), pads=[1] * 4)
    x = b.node("Relu", b.conv(x, 32))
    x = b.node("GlobalAveragePool", x, shape=(1, 32, 1, 1))
    return [b.gemm(b.flatten(x), 10)]


def joined(b: graphs.Builder) -> list[str]:
    x = b.node("Relu", b.conv(b.input(1, 3, 12, 12), 16))
    left = b.node("Relu", b.conv(x, 8, (1, 1), pads=(0, 0, 0, 0)))
    right = b.node("AveragePool", x, shape=(1, 16, 12, 12), kernel_shape=(3, 3), pads=[1] * 4)
    down = b.node("MaxPool", x, shape=(1, 16, 6, 6), kernel_shape=(2, 2), strides=(2, 2))
    sizes = b.constant(np.array([1, 1, 2, 2], np.float32))
    up = b.node("Resize", down, "", sizes, shape=(1, 16, 12, 12), mode="nearest")
    y = b.node("Concat", left, right, up, shape=(1, 40, 12, 12), axis=1)
    return [b.conv(y, 16)]


def cut(b: graphs.Builder) -> list[str]:
    """Split, Slice, Pad, Transpose and Reshape (a channel shuffle)."""
    x = b.node("Relu", b.conv(b.input(1, 3, 10, 11), 16))
    sizes = [b.constant(np.array([8, 8]))] if b.opset >= 13 else []
    old = {} if sizes else {"split": [8, 8]}
    first, second = f"{x}.first", f"{x}.second"
    b.nodes.append(helper.make_node("Split", [x, *sizes], [first, second], "split", axis=1, **old))
    b.shapes[first] = b.shapes[second] = (1, 8, 10, 11)
    second = b.node("Relu", b.conv(second, 8, group=8))
    y = b.node("Concat", first, second, shape=(1, 16, 10, 11), axis=1)
    y = b.node("Reshape", y, b.constant(np.array([1, 2, 8, 10, 11])), shape=(1, 2, 8, 10, 11))
    y = b.node("Transpose", y, shape=(1, 8, 2, 10, 11), perm=[0, 2, 1, 3, 4])
    y = b.node("Reshape", y, b.constant(np.array([1, 16, 10, 11])), shape=(1, 16, 10, 11))
    corners = [b.constant(np.array(v)) for v in ([1, 2], [9, 10], [2, 3])]
    y = b.node("Slice", y, *corners, shape=(1, 16, 8, 8))
    frame = b.constant(np.array([0, 0, 1, 1, 0, 0, 1, 1]))
    y = b.node("Pad", y, frame, shape=(1, 16, 10, 10))
    return [b.conv(y, 8, pads=(0, 0, 0, 0))]


def curved(b: graphs.Builder) -> list[str]:
    """SiLU, HardSwish, sigmoid, leaky ReLU; a squeeze."""
    x = b.conv(b.input(1, 3, 9, 12), 16)
    x = graphs.activation(b, x, "silu")
    kind = "HardSwish" if b.opset >= 14 else "hardswish product"
    x = graphs.activation(b, b.conv(x, 16, group=16), kind)
    s = b.node("GlobalAveragePool", x, shape=(1, 16, 1, 1))
    s = b.node("Relu", b.conv(s, 8, (1, 1), pads=(0, 0, 0, 0)))
    s = b.node("Sigmoid", b.conv(s, 16, (1, 1), pads=(0, 0, 0, 0)))
    x = b.node("Mul", x, s, shape=b.shapes[x])
    x = b.node("LeakyRelu", b.conv(x, 24), alpha=0.125)
    return [b.conv(x, 8, (1, 1), pads=(0, 0, 0, 0))]


def masked(b: graphs.Builder) -> list[str]:
    x = b.node("Relu", b.conv(b.input(1, 3, 14, 15), 16))
    y = b.node("Relu", lattice(b, b.conv(x, 16)))
    y = b.node("Add", lattice(b, b.conv(y, 16), 1), x)
    y = lattice(b, b.conv(b.node("Relu", y), 24, (1, 1), (2, 2), (0, 0, 0, 0)))
    y = lattice(b, b.conv(b.node("Relu", y), 24, group=24), 1)
    return [b.conv(b.node("Relu", y), 8, (1, 1), pads=(0, 0, 0, 0))]


def masked_silu(b: graphs.Builder) -> list[str]:
    x = graphs.activation(b, lattice(b, b.conv(b.input(1, 3, 12, 12), 16)), "silu")
    x = graphs.activation(b, lattice(b, b.conv(x, 16, group=16), 1), "silu")
    return [lattice(b, b.conv(x, 16))]


def filled(b: graphs.Builder) -> list[str]:
    x = b.node("Relu", b.conv(b.input(1, 3, 12, 13), 16))
    y = b.node("Relu", b.fill(b.conv(x, 16), 0.4))
    y = b.node("Add", b.fill(b.conv(y, 16), 0.3), x)
    return [b.conv(b.node("Relu", y), 8)]


def lattice(b: graphs.Builder, x: str, phase: int = 0) -> str:
    """A mask as `activsparse mask` writes it: every third position left out."""
    rows, columns = np.indices(b.shapes[x][2:])
    kept = ((columns + 2 * rows + phase) % 3 != 0)[None, None].astype(np.float32)
    return b.node("Mul", x, b.constant(kept, f"{x}.activation_mask"), shape=b.shapes[x])


Network = Callable[[graphs.Builder], list[str]]
ZOO: dict[str, Network] = {
    f.__name__: f
    for f in (
        plain, residual, inverted, classifier, joined, cut, curved, masked, masked_silu, filled,
    )
}  # fmt: skip


def cases() -> list[tuple[str, str]]:
    """(network, style) of every pair that exists."""
    # Resize by scales and Pad by inputs are from opset 11 on.
    old = {"joined", "cut", "inverted"}
    return [
        (network, style)
        for network in ZOO
        for style, how in STYLES.items()
        if how.opset >= 11 or network not in old
    ]


def case(path: Path, network: str, style: str, seed: int = 0) -> Path:
    """Write a quantised network; its float original lies beside it as `*.float.onnx`."""
    how = STYLES[style]
    b = graphs.Builder(seed, how.opset)
    original = path.with_suffix(".float.onnx")
    b.save(original, *ZOO[network](b))
    model = typed(original)
    if how.by == "onnxruntime":
        return by_onnxruntime(model, path, how, seed)
    return by_hand(model, path, how, seed)


def typed(path: Path) -> onnx.ModelProto:
    """The model with the shapes of its outputs, which quantisers want."""
    return shape_inference.infer_shapes(onnx.load(path))


def images(model: onnx.ModelProto, seed: int = 0, count: int = IMAGES) -> list[dict[str, Any]]:
    rng = np.random.default_rng(seed)
    (value,) = model.graph.input
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    return [{value.name: rng.standard_normal(shape).astype(np.float32)} for _ in range(count)]


def by_onnxruntime(
    model: onnx.ModelProto, path: Path, how: Style, seed: int = 0, count: int = IMAGES
) -> Path:
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(images(model, seed, count))

        def get_next(self):
            return next(self.left, None)

    types = {"uint8": q.QuantType.QUInt8, "int8": q.QuantType.QInt8}
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        q.quantize_static(
            model,
            path,
            Reader(),
            quant_format=q.QuantFormat.QOperator if how.operators else q.QuantFormat.QDQ,
            per_channel=how.per_channel,
            reduce_range=how.reduce_range,
            activation_type=types[how.activations],
            weight_type=types[how.weights],
            calibrate_method=q.CalibrationMethod.Percentile
            if how.percentile
            else q.CalibrationMethod.MinMax,
            extra_options=how.extra,
        )
    finally:
        logging.disable(level)
    return path


def by_hand(model: onnx.ModelProto, path: Path, how: Style, seed: int = 0) -> Path:
    """Quantise as NNCF and torch do: pairs at the inputs of convolutions, additions and products.

    Weights are int8 constants behind DequantizeLinear (narrow: -127 to 127), biases float32
    (NNCF also int32 behind DequantizeLinear: every second one here). torch's pt2e quantises
    outputs of convolutions behind their activation, and what an Add reads and gives.
    """
    ranges = _ranges(model, images(model, seed))
    hand = Hand(model.graph, how, ranges)
    hand.write()
    opsets = [helper.make_opsetid("", how.opset)]
    graph = helper.make_graph(
        hand.nodes, "quantised", model.graph.input, model.graph.output, hand.constants
    )
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def _ranges(model: onnx.ModelProto, feeds: list[dict[str, Any]]) -> dict[str, tuple[float, float]]:
    """The least and the largest value of every tensor, zero included."""
    from activsparse.engine.exact import ExactModel

    exact = ExactModel(model)
    names = [o for node in model.graph.node for o in node.output] + exact.inputs
    found: dict[str, tuple[float, float]] = {}
    for feed in feeds:
        for name, span in exact.run(feed, keep=names).items():
            low, high = found.get(name, (0.0, 0.0))
            found[name] = min(low, float(span.low.min())), max(high, float(span.low.max()))
    return found


_READ_QUANTISED = ("Conv", "Gemm", "Add", "Mul", "AveragePool", "GlobalAveragePool", "Concat")


class Hand:
    """A graph under quantisation."""

    def __init__(
        self, graph: onnx.GraphProto, how: Style, ranges: dict[str, tuple[float, float]]
    ) -> None:
        self.graph, self.how, self.ranges = graph, how, ranges
        self.constants = list(graph.initializer)
        self.values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        self.nodes: list[onnx.NodeProto] = []
        self.pairs: dict[str, str] = {}

    def write(self) -> None:
        for index, node in enumerate(self.graph.node):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            if node.op_type in _READ_QUANTISED:
                for i, name in enumerate(node.input):
                    if name in self.values:
                        continue
                    copy.input[i] = self.pair(name)
            if node.op_type in ("Conv", "Gemm"):
                self.weigh(copy, index)
            self.nodes.append(copy)
            if self.how.by == "pt2e" and node.output[0] in {o.name for o in self.graph.output}:
                # torch also quantises results: the original name goes to what is dequantised
                copy.output[0] += ".real"
                self.ranges[copy.output[0]] = self.ranges[node.output[0]]
                self.pairs[copy.output[0]] = node.output[0]
                self.pair(copy.output[0], node.output[0])

    def constant(self, name: str, value: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def pair(self, name: str, result: str | None = None) -> str:
        """QuantizeLinear and DequantizeLinear of a value, one pair for all that read it."""
        if name in self.pairs and result is None:
            return self.pairs[name]
        low, high = self.ranges[name]
        dtype = np.dtype(self.how.activations)
        if dtype == np.int8:
            scale, zero = np.float32(max(-low, high, 1e-3) / 127), 0
            if self.how.by == "pt2e":  # affine
                scale = np.float32(max(high - low, 1e-3) / 255)
                zero = int(np.clip(round(-128 - low / float(scale)), -128, 127))
        else:
            scale = np.float32(max(high - low, 1e-3) / 255)
            zero = int(np.clip(round(-low / float(scale)), 0, 255))
        step = self.constant(f"{name}.scale", scale)
        point = self.constant(f"{name}.zero", dtype.type(zero))
        quantised, real = f"{name}.q", result or f"{name}.dq"
        self.nodes.append(helper.make_node("QuantizeLinear", [name, step, point], [quantised]))
        self.nodes.append(helper.make_node("DequantizeLinear", [quantised, step, point], [real]))
        self.pairs[name] = real
        return real

    def weigh(self, node: onnx.NodeProto, index: int) -> None:
        name = node.input[1]
        weight = self.values[name]
        axes = tuple(range(1, weight.ndim)) if self.how.per_channel else None
        scale = np.abs(weight).max(axes).astype(np.float32) / np.float32(127)
        wide = scale.reshape(-1, *[1] * (weight.ndim - 1)) if self.how.per_channel else scale
        quantised = np.clip(np.rint(weight / wide), -127, 127).astype(np.int8)
        zero = np.zeros(scale.shape, np.int8)
        inputs = [
            self.constant(f"{name}.q", quantised),
            self.constant(f"{name}.scale", scale),
            self.constant(f"{name}.zero", zero),
        ]
        axis = {"axis": 0} if self.how.per_channel else {}
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.dq"], **axis))
        node.input[1] = f"{name}.dq"
        # ONNX Runtime quantises float biases itself, at opset 10 by what that opset has not.
        if len(node.input) > 2 and self.how.by == "nncf" and (index % 2 or self.how.opset < 11):
            self.bias(node, scale)

    def bias(self, node: onnx.NodeProto, weight_scale: np.ndarray) -> None:
        name = node.input[2]
        step = node.input[0].removesuffix(".dq") + ".scale"
        input_scale = next(numpy_helper.to_array(t) for t in self.constants if t.name == step)
        scale = (weight_scale * input_scale).astype(np.float32)
        quantised = np.rint(self.values[name] / scale).astype(np.int32)
        inputs = [
            self.constant(f"{name}.q", quantised),
            self.constant(f"{name}.scale", scale),
            self.constant(f"{name}.zero", np.zeros(scale.shape, np.int32)),
        ]
        axis = {"axis": 0} if scale.ndim else {}
        self.nodes.append(helper.make_node("DequantizeLinear", inputs, [f"{name}.dq"], **axis))
        node.input[2] = f"{name}.dq"
