"""Small ONNX graphs written as code, and random ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """An ONNX graph under construction; methods append a node and return its output's name."""

    def __init__(self, seed: int = 0, opset: int = 18) -> None:
        self.rng = np.random.default_rng(seed)
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs: list[onnx.ValueInfoProto] = []
        self.shapes: dict[str, tuple[int, ...]] = {}

    def input(self, *shape: int | str, name: str = "x") -> str:
        self.inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
        self.shapes[name] = shape
        return name

    def constant(self, value, name: str | None = None) -> str:
        name = name or f"k{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(
        self, op: str, *inputs: str, shape: tuple[int, ...] | None = None, **attributes
    ) -> str:
        output = f"v{len(self.nodes)}_{op.lower()}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=f"n_{output}", **attributes))
        self.shapes[output] = self.shapes[inputs[0]] if shape is None else shape
        return output

    def normal(self, *shape: int) -> np.ndarray:
        return self.rng.standard_normal(shape).astype(np.float32)

    def uniform(self, *shape: int) -> np.ndarray:
        return self.rng.uniform(0.5, 1.5, shape).astype(np.float32)

    def conv(
        self,
        x: str,
        out: int,
        kernel: tuple[int, int] = (3, 3),
        strides=(1, 1),
        pads=(1, 1, 1, 1),
        dilations=(1, 1),
        group: int = 1,
        bias: bool = True,
    ) -> str:
        n, c, h, w = self.shapes[x]
        fan_in = c // group * kernel[0] * kernel[1]
        inputs = [x, self.constant(self.normal(out, c // group, *kernel) / np.float32(fan_in**0.5))]
        if bias:
            inputs.append(self.constant(self.normal(out)))
        size = [
            (s + pads[i] + pads[i + 2] - dilations[i] * (kernel[i] - 1) - 1) // strides[i] + 1
            for i, s in enumerate((h, w))
        ]
        attributes = {"strides": strides, "pads": pads, "dilations": dilations, "group": group}
        return self.node("Conv", *inputs, shape=(n, out, *size), kernel_shape=kernel, **attributes)

    def norm(self, x: str) -> str:
        c = self.shapes[x][1]
        values = (self.uniform(c), self.normal(c), self.normal(c), self.uniform(c))
        return self.node("BatchNormalization", x, *map(self.constant, values))

    def plane(self, x: str, sparsity: float) -> np.ndarray:
        """A random bool mask for `x` with at least one position kept."""
        mask = self.rng.random(self.shapes[x][2:]) >= sparsity
        mask.flat[self.rng.integers(mask.size)] = True
        return mask

    def mask(self, x: str, sparsity: float = 0.3, swap: bool = False) -> str:
        k = self.constant(self.plane(x, sparsity)[None, None].astype(np.float32))
        return self.node("Mul", *((k, x) if swap else (x, k)), shape=self.shapes[x])

    def fill(self, x: str, sparsity: float = 0.3) -> str:
        """Skipped positions take the value of the first kept one after them."""
        mask = self.plane(x, sparsity).reshape(-1)
        kept = np.flatnonzero(mask)
        source = kept[np.searchsorted(kept, np.arange(mask.size)) % len(kept)]
        return self.gather(x, source)

    def gather(self, x: str, source: np.ndarray) -> str:
        n, c, h, w = shape = self.shapes[x]
        flat = self.node("Reshape", x, self.constant(np.array([n, c, h * w])), shape=(n, c, h * w))
        taken = self.node("Gather", flat, self.constant(source.astype(np.int64)), axis=2)
        return self.node("Reshape", taken, self.constant(np.array(shape)), shape=shape)

    def gemm(self, x: str, out: int) -> str:
        n, f = self.shapes[x]
        weight = self.normal(out, f) / np.float32(f**0.5)
        constants = (self.constant(weight), self.constant(self.normal(out)))
        return self.node("Gemm", x, *constants, shape=(n, out), transB=1)

    def flatten(self, x: str) -> str:
        n, *rest = self.shapes[x]
        return self.node("Flatten", x, shape=(n, int(np.prod(rest))))

    def save(self, path: Path, *outputs: str) -> Path:
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "test", self.inputs, results, self.constants)
        opsets = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        onnx.save(model, path)
        return path


def activation(b: Builder, x: str, kind: str) -> str:
    """An activation in one of the forms exporters write."""
    if kind == "relu6":
        bounds = (b.constant(np.float32(0)), b.constant(np.float32(6)))
        return b.node("Clip", x, *bounds)
    if kind == "silu":
        return b.node("Mul", x, b.node("Sigmoid", x))
    if kind == "hardswish arithmetic":
        three, six = b.constant(np.float32(3)), b.constant(np.float32(6))
        zero = b.constant(np.float32(0))
        clipped = b.node("Clip", b.node("Add", x, three), zero, six)
        return b.node("Div", b.node("Mul", x, clipped), six)
    if kind == "hardswish product":
        gate = b.node("HardSigmoid", x, alpha=1 / 6, beta=0.5)
        return b.node("Mul", gate, x)
    return b.node(kind, x)


ACTIVATIONS = (
    "Relu",
    "relu6",
    "silu",
    "Sigmoid",
    "HardSwish",
    "hardswish arithmetic",
    "hardswish product",
)


def random_graph(path: Path, seed: int) -> Path:
    """A random network of everything the engine fuses: masks, norms, residuals, squeezes, joins."""
    b = Builder(seed)
    rng = b.rng
    x = b.input(
        int(rng.integers(1, 3)),
        int(rng.choice([1, 3, 4, 5, 16])),
        int(rng.integers(8, 20)),
        int(rng.integers(8, 20)),
    )
    x = _layer(b, x, int(rng.choice([8, 16, 24])))
    for _ in range(int(rng.integers(2, 6))):
        x = rng.choice([_layer, _residual, _squeeze, _pool, _join, _depthwise])(b, x)
    end = rng.choice(["image", "mean", "vector", "several"])
    if end == "several":
        return b.save(path, x, b.gemm(b.flatten(b.node("Relu", x)), 7))
    if end in ("mean", "vector"):
        n, c, *_ = b.shapes[x]
        if end == "mean":
            x = b.node("GlobalAveragePool", x, shape=(n, c, 1, 1))
        x = b.gemm(b.flatten(x), int(rng.integers(1, 20)))
    return b.save(path, x)


def _masked(b: Builder, x: str) -> str:
    kind = b.rng.choice(["none", "zero", "zero", "swapped", "nearest"])
    if kind == "none":
        return x
    sparsity = float(b.rng.choice([0.2, 0.5, 0.9]))
    if kind == "nearest":
        return b.fill(x, sparsity)
    return b.mask(x, sparsity, swap=kind == "swapped")


def _norm_and_mask(b: Builder, x: str) -> str:
    site = b.rng.choice(["norm", "conv", "plain"])
    if site == "plain":
        return _masked(b, x)
    return _masked(b, b.norm(x)) if site == "norm" else b.norm(_masked(b, x))


def _layer(b: Builder, x: str, out: int | None = None) -> str:
    rng = b.rng
    _, c, h, w = b.shapes[x]
    kernel = tuple(int(k) for k in rng.choice([1, 1, 2, 3, 3, 5], 2))
    dilations = (2, 1) if rng.random() < 0.1 and h > 10 else (1, 1)
    pads = [int(p) for p in rng.integers(0, 3, 4)]
    pads = [min(p, kernel[i % 2]) for i, p in enumerate(pads)]
    for i, size in enumerate((h, w)):
        if size + pads[i] + pads[i + 2] < dilations[i] * (kernel[i] - 1) + 1:
            pads[i] = kernel[i]
            pads[i + 2] = kernel[i]
    strides = tuple(int(s) for s in rng.choice([1, 1, 2], 2))
    out = out or int(rng.choice([8, 13, 16, 32]))
    group = 2 if c % 2 == 0 and out % 2 == 0 and rng.random() < 0.15 else 1
    x = b.conv(x, out, kernel, strides, pads, dilations, group, bias=rng.random() < 0.5)
    x = _norm_and_mask(b, x)
    return activation(b, x, str(rng.choice(ACTIVATIONS)))


def _residual(b: Builder, x: str) -> str:
    c = b.shapes[x][1]
    y = b.node("Relu", _norm_and_mask(b, b.conv(x, c)))
    y = _norm_and_mask(b, b.conv(y, c))
    shortcut = b.norm(b.conv(x, c, (1, 1), pads=(0, 0, 0, 0))) if b.rng.random() < 0.4 else x
    pair = (y, shortcut) if b.rng.random() < 0.5 else (shortcut, y)
    total = b.node("Add", *pair)
    return b.node("Relu", total) if b.rng.random() < 0.7 else total


def _squeeze(b: Builder, x: str) -> str:
    n, c, *_ = b.shapes[x]
    axes = b.constant(np.array([2, 3]))
    s = b.node("ReduceMean", x, axes, shape=(n, c, 1, 1), keepdims=1)
    s = b.node("Relu", b.conv(s, 8, (1, 1), pads=(0, 0, 0, 0)))
    s = b.node("Sigmoid", b.conv(s, c, (1, 1), pads=(0, 0, 0, 0)))
    pair = (x, s) if b.rng.random() < 0.5 else (s, x)
    return b.node("Mul", *pair, shape=b.shapes[x])


def _pool(b: Builder, x: str) -> str:
    n, c, h, w = b.shapes[x]
    if min(h, w) < 4:
        return x
    ceil = int(b.rng.integers(2))
    shape = (n, c, *(((s - 3 + (1 if ceil else 0)) // 2 + 1) for s in (h, w)))
    op = str(b.rng.choice(["MaxPool", "AveragePool"]))
    return b.node(op, x, shape=shape, kernel_shape=(3, 3), strides=(2, 2), ceil_mode=ceil)


def _join(b: Builder, x: str) -> str:
    n, c, h, w = b.shapes[x]
    sizes = [int(s) for s in b.rng.choice([8, 16, 32], int(b.rng.integers(1, 4)))]
    parts = [b.node("Relu", _norm_and_mask(b, b.conv(x, size))) for size in sizes]
    if b.rng.random() < 0.5:
        parts.insert(int(b.rng.integers(len(parts) + 1)), x)
        sizes.append(c)
    return b.node("Concat", *parts, shape=(n, sum(sizes), h, w), axis=1)


def _depthwise(b: Builder, x: str) -> str:
    c = b.shapes[x][1]
    x = b.conv(x, c, group=c, strides=(1, 1), bias=False)
    return activation(b, _norm_and_mask(b, x), str(b.rng.choice(ACTIVATIONS)))
