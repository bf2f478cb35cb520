"""From a QDQ file to LiteRT's int8 operators.

A QuantizeLinear and its DequantizeLinear are one int8 value here: what an operator's result is
rounded to. uint8 becomes int8 by subtracting 128 from values and zero points, which changes no
result. What the file leaves in float32 stays so, between DEQUANTIZE and QUANTIZE. Images become
(N, H, W, C).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from ai_edge_litert import schema_py_generated as schema

from activsparse.engine.exact.windows import Window
from activsparse.errors import ActivsparseError
from activsparse.litert.quantised_graph import QdqGraph, attributes_of
from activsparse.litert.writer import Scales, Writer
from activsparse.onnx_file.check import title

__all__ = ["emit_quantised"]

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
_Fused = schema.ActivationFunctionType

# Of operators on int8; of float32 all are 1.
_VERSIONS = {
    "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 4, "RESHAPE": 1, "QUANTIZE": 1,
    "HARD_SWISH": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Value:
    """A tensor in the file: its number, its sizes there, its scales unless it is float32."""

    tensor: int
    shape: Shape
    scales: Scales | None


def emit_quantised(graph: QdqGraph) -> bytes:
    """Return the .tflite file of a QDQ graph.

    Raises:
        ActivsparseError: LiteRT has no operator for a node; the message names it.
    """
    emitter = _Emitter(graph)
    for node in graph.nodes:
        if node.output[0] in emitter.values:
            continue  # part of the operator before it
        rule = _RULES.get(node.op_type)
        if rule is None:
            raise ActivsparseError(
                f"{graph.name}: {title(node)} cannot be written as an int8 .tflite file; replace "
                f"it in the model (known: {', '.join(sorted(_RULES))})"
            )
        rule(emitter, node)
    results = [emitter.real(name).tensor for name in graph.outputs]
    return emitter.writer.finish([emitter.values[n].tensor for n in graph.inputs], results)


class _Emitter:
    def __init__(self, graph: QdqGraph) -> None:
        self.graph = graph
        self.writer = Writer()
        self.values: dict[str, Value] = {}
        self._reals: dict[str, Value] = {}
        for name in graph.inputs:
            shape = _nhwc(graph.shape(name))
            self.values[name] = Value(self.writer.value(name, shape), shape, None)

    def error(self, node: onnx.NodeProto, cause: str) -> ActivsparseError:
        return ActivsparseError(
            f"{self.graph.name}: {title(node)}: {cause} cannot be written as an int8 .tflite "
            "file; replace it in the model"
        )

    def add(
        self,
        op: str,
        inputs: Sequence[int],
        name: str,
        shape: Shape,
        scales: Scales | None,
        options: Any = None,
        quantised: bool | None = None,
    ) -> Value:
        """Append an operator with one output."""
        tensor = self.writer.value(name, shape, scales)
        whole = scales is not None if quantised is None else quantised
        version = _VERSIONS.get(op, 2) if whole else 1
        self.writer.operator(op, inputs, [tensor], options, version)
        return Value(tensor, shape, scales)

    def int32(self, name: str, values: Any) -> int:
        return self.writer.constant(name, np.asarray(values, np.int32))

    def value(self, name: str) -> Value:
        """A tensor as it is; a constant as float32."""
        if name not in self.values:
            array = self.graph.constants[name].astype(np.float32)
            if array.ndim == 4:
                array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
            elif array.ndim == 3:  # of channels, rows and columns
                array = np.ascontiguousarray(array.transpose(1, 2, 0))
            self.values[name] = Value(self.writer.constant(name, array), array.shape, None)
        return self.values[name]

    def real(self, name: str) -> Value:
        """A tensor as float32."""
        value = self.value(name)
        if value.scales is None:
            return value
        if name not in self._reals:
            self._reals[name] = self.add(
                "DEQUANTIZE", [value.tensor], f"{name}.real", value.shape, None, None, True
            )
        return self._reals[name]

    def rounded(self, value: Value, scales: Scales, name: str) -> Value:
        """A value at other scales."""
        if value.scales == scales:
            return value
        return self.add("QUANTIZE", [value.tensor], name, value.shape, scales)

    def arithmetic(self, node: onnx.NodeProto) -> tuple[Scales | None, int, str]:
        """What a node's result is rounded to, the activation that goes along, and its name."""
        output = node.output[0]
        scales = self.graph.target(output)
        readers = self.graph.readers(output)
        if scales is None and len(readers) == 1 and not self.graph.is_result(output):
            (reader,) = readers
            after = reader.output[0]
            scales = self.graph.target(after) if reader.op_type in ("Relu", "Clip") else None
            if scales is not None:
                fused = self.fused(reader, scales)
                if fused is not None:
                    return scales, fused, after
                scales = None
        return scales, _Fused.NONE, output

    def fused(self, node: onnx.NodeProto, scales: Scales) -> int | None:
        """The activation to fuse for a Relu or Clip in front of a rounding, None if none is it."""
        bounds = (0.0, np.inf) if node.op_type == "Relu" else self.bounds(node)
        least, most = ((q - scales.zero[0]) * scales.scale[0] for q in (-128, 127))
        low = bounds[0] <= least + 1e-9 * abs(least)
        high = bounds[1] >= most * (1 - 1e-6)
        if low and high:
            return int(_Fused.NONE)  # saturation does it
        known = {(0.0, np.inf): _Fused.RELU, (0.0, 6.0): _Fused.RELU6}
        return known.get(bounds)

    def bounds(self, node: onnx.NodeProto) -> tuple[float, float]:
        """Of a Clip."""
        values = [-np.inf, np.inf]
        for i, name in enumerate(node.input[1:3]):
            if name and name not in self.graph.constants:
                raise self.error(node, "a bound that is computed")
            if name:
                values[i] = float(self.graph.constants[name].reshape(()))
        return values[0], values[1]

    def moved(
        self, node: onnx.NodeProto, op: str, inputs: list[int], x: Value, options: Any = None
    ) -> None:
        """An operator that moves values: the result is at the scales of what it reads."""
        shape = _nhwc(self.graph.shape(node.output[0]))
        self.values[node.output[0]] = self.add(
            op, [x.tensor, *inputs], node.output[0], shape, x.scales, options
        )

    def framed(self, x: Value, window: Window, name: str, lowest: bool) -> tuple[Value, int]:
        """What a window slides over, and LiteRT's scheme of padding."""
        size = x.shape[1:3]
        same = []
        for i in range(2):
            reach = (window.kernel[i] - 1) * window.dilations[i] + 1
            needed = max((window.output[i] - 1) * window.strides[i] + reach - size[i], 0)
            full = window.output[i] == -(-size[i] // window.strides[i])
            same.append(full and window.pads[i] == needed // 2)
        if all(same):
            return x, int(schema.Padding.SAME)
        ends = [window.pads[2 + i] + window.beyond[i] for i in range(2)]
        if not any((*window.pads, *ends)):
            return x, int(schema.Padding.VALID)
        amounts = self.int32(
            f"{name}.pads",
            [(0, 0), (window.pads[0], ends[0]), (window.pads[1], ends[1]), (0, 0)],
        )
        n, h, w, c = x.shape
        shape = (n, h + window.pads[0] + ends[0], w + window.pads[1] + ends[1], c)
        inputs, op, options = [x.tensor, amounts], "PAD", schema.PadOptionsT()
        if lowest:
            op, options = "PADV2", schema.PadV2OptionsT()
            least = np.array([-128], np.int8)
            if x.scales is None:
                least = np.array([np.finfo(np.float32).min], np.float32)
            inputs.append(self.writer.constant(f"{name}.lowest", least, x.scales))
        value = self.add(op, inputs, f"{name}.padded", shape, x.scales, options)
        return value, int(schema.Padding.VALID)


def _quantise(e: _Emitter, node: onnx.NodeProto) -> None:
    scales = e.graph.scales_of(node)
    e.values[node.output[0]] = e.rounded(e.value(node.input[0]), scales, node.output[0])


def _dequantise(e: _Emitter, node: onnx.NodeProto) -> None:
    value = e.value(node.input[0])
    if value.scales != e.graph.scales_of(node):
        raise e.error(node, "a value read at another scale than it was written at")
    e.values[node.output[0]] = value


def _weighted(
    e: _Emitter, node: onnx.NodeProto, order: tuple[int, ...], channels: int
) -> tuple[Value, list[int], Scales | None, int, str]:
    """What an operator with weights reads and gives.

    Args:
        e: the emitter.
        node: a Conv, Gemm or MatMul.
        order: of the weight's axes in LiteRT.
        channels: the axis of output channels there.

    Returns:
        The input, the numbers of weight and bias, the scales of the result, its activation, name.
    """
    graph = e.graph
    x, name = e.value(node.input[0]), node.input[1]
    if name not in graph.constants:
        raise e.error(node, "a weight that is computed")
    scales, fused, output = e.arithmetic(node)
    stored = graph.stored.get(name)
    whole = x.scales is not None and stored is not None and scales is not None
    if whole and stored is not None and any(stored.scales.zero):
        whole = False  # LiteRT has none for weights
    out = np.transpose(graph.constants[name], order).shape[channels]
    bias = np.zeros(out, np.float32)
    if len(node.input) > 2 and node.input[2]:
        bias = graph.constants[node.input[2]].astype(np.float32).reshape(-1)
    if not whole or stored is None or x.scales is None:
        x = e.real(node.input[0])
        weight = np.ascontiguousarray(np.transpose(graph.constants[name], order), np.float32)
        constants = [
            e.writer.constant(f"{output}.weight", weight),
            e.writer.constant(f"{output}.bias", bias),
        ]
        return x, constants, None, int(_Fused.NONE), node.output[0]
    numbers = np.ascontiguousarray(np.transpose(stored.numbers, order))
    of_weight = Scales(stored.scales.scale, stored.scales.zero, channels)
    units = np.array(stored.scales.scale) * x.scales.scale[0]
    limit = 2.0**31 - 1
    whole_bias = np.clip(np.rint(bias.astype(np.float64) / units), -limit, limit).astype(np.int32)
    of_bias = Scales(tuple(map(float, units)), (0,) * len(units))
    constants = [
        e.writer.constant(f"{output}.weight", numbers, of_weight),
        e.writer.constant(f"{output}.bias", whole_bias, of_bias),
    ]
    return x, constants, scales, fused, output


def _conv(e: _Emitter, node: onnx.NodeProto) -> None:
    a = attributes_of(node)
    weight = e.graph.constants.get(node.input[1])
    size = e.graph.shape(node.input[0])
    if weight is None or weight.ndim != 4 or len(size) != 4:
        raise e.error(node, "a convolution that is not of images")
    group, channels = int(a.get("group", 1)), size[1]
    depthwise = group == channels > 1
    if group > 1 and not depthwise:
        raise e.error(node, "a convolution in groups")
    order, axis = ((1, 2, 3, 0), 3) if depthwise else ((0, 2, 3, 1), 0)
    x, constants, scales, fused, output = _weighted(e, node, order, axis)
    window = Window(a, weight.shape[2:], (x.shape[1], x.shape[2]))
    framed, padding = e.framed(x, window, output, lowest=False)
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.strideH, options.strideW = window.strides
    options.dilationHFactor, options.dilationWFactor = window.dilations
    options.padding, options.fusedActivationFunction = padding, fused
    if depthwise:
        options.depthMultiplier = len(weight) // channels
    op = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    shape = _nhwc(e.graph.shape(output))
    e.values[output] = e.add(op, [framed.tensor, *constants], output, shape, scales, options)


def _gemm(e: _Emitter, node: onnx.NodeProto) -> None:
    a = attributes_of(node)
    plain = a.get("alpha", 1.0) == 1 and a.get("beta", 1.0) == 1 and not a.get("transA", 0)
    if not plain or len(e.graph.shape(node.input[0])) != 2:
        raise e.error(node, "a product in this form")
    order = (0, 1) if a.get("transB", 0) else (1, 0)
    x, constants, scales, fused, output = _weighted(e, node, order, 0)
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = fused
    shape = e.graph.shape(output)
    e.values[output] = e.add(
        "FULLY_CONNECTED", [x.tensor, *constants], output, shape, scales, options
    )


def _binary(e: _Emitter, node: onnx.NodeProto) -> None:
    options = schema.AddOptionsT() if node.op_type == "Add" else schema.MulOptionsT()
    scales, fused, output = e.arithmetic(node)
    masks = [name for name in node.input if _is_mask(e.graph.constants.get(name))]
    if node.op_type == "Mul" and masks:
        data = next(name for name in node.input if name != masks[0])
        x = e.value(data)
        if scales is not None and x.scales is not None:
            mask = e.graph.constants[masks[0]].astype(np.int8).transpose(0, 2, 3, 1)
            whole = Scales((1.0,), (0,))  # zeros and ones are what they are
            factor = e.writer.constant(f"{masks[0]}", np.ascontiguousarray(mask), whole)
            options.fusedActivationFunction = fused
            e.values[output] = e.add("MUL", [x.tensor, factor], output, x.shape, scales, options)
            return
    read = [e.value(name) for name in node.input]
    if scales is None or any(x.scales is None for x in read):
        read, scales, fused, output = (
            [e.real(name) for name in node.input], None, int(_Fused.NONE), node.output[0],
        )  # fmt: skip
    options.fusedActivationFunction = fused
    shape = _nhwc(e.graph.shape(output))
    inputs = [x.tensor for x in read]
    e.values[output] = e.add(node.op_type.upper(), inputs, output, shape, scales, options)


def _is_mask(array: Array | None) -> bool:
    return array is not None and array.ndim == 4 and bool(np.isin(array, (0, 1)).all())


# What LiteRT's int8 operators of bounded functions write.
_FIXED = {"Sigmoid": Scales((1 / 256,), (-128,)), "Tanh": Scales((1 / 128,), (0,))}


def _activation(e: _Emitter, node: onnx.NodeProto) -> None:
    name = node.op_type
    op = {"Sigmoid": "LOGISTIC", "LeakyRelu": "LEAKY_RELU", "HardSwish": "HARD_SWISH"}.get(
        name, name.upper()
    )
    options = None
    if name == "LeakyRelu":
        options = schema.LeakyReluOptionsT()
        options.alpha = float(attributes_of(node).get("alpha", 0.01))
    output, scales = node.output[0], e.graph.target(node.output[0])
    x = e.value(node.input[0])
    if scales is None or x.scales is None:
        x, scales = e.real(node.input[0]), None
    written = scales and _FIXED.get(name, scales)
    value = e.add(op, [x.tensor], f"{output}.table", x.shape, written, options)
    e.values[output] = value if scales is None else e.rounded(value, scales, output)


def _hard_sigmoid(e: _Emitter, node: onnx.NodeProto) -> None:
    a, name = attributes_of(node), node.output[0]
    if abs(a.get("alpha", 0.2) - 1 / 6) > 1e-6 or a.get("beta", 0.5) != 0.5:
        raise e.error(node, "a slope but 1/6")
    x = e.real(node.input[0])
    three = e.writer.constant(f"{name}.shift", np.array(3, np.float32))
    sixth = e.writer.constant(f"{name}.scale", np.array(1 / 6, np.float32))
    options = schema.AddOptionsT()
    options.fusedActivationFunction = _Fused.RELU6
    sum_of = e.add("ADD", [x.tensor, three], f"{name}.sum", x.shape, None, options)
    inputs = [sum_of.tensor, sixth]
    e.values[name] = e.add("MUL", inputs, name, x.shape, None, schema.MulOptionsT())


def _relu(e: _Emitter, node: onnx.NodeProto) -> None:
    """A Relu or Clip of its own."""
    output, x = node.output[0], e.value(node.input[0])
    scales = e.graph.target(output)
    bounds = (0.0, np.inf) if node.op_type == "Relu" else e.bounds(node)
    if scales is not None and x.scales is not None:
        fused = e.fused(node, scales)
        if fused == _Fused.NONE:
            e.values[output] = e.rounded(x, scales, output)
            return
    ops = {(0.0, np.inf): "RELU", (0.0, 6.0): "RELU6"}
    if bounds not in ops:
        raise e.error(node, f"a clip to {bounds[0]:g} to {bounds[1]:g}")
    x = e.real(node.input[0])
    e.values[output] = e.add(ops[bounds], [x.tensor], output, x.shape, None)


def _pool(e: _Emitter, node: onnx.NodeProto) -> None:
    a, x = attributes_of(node), e.value(node.input[0])
    average = node.op_type == "AveragePool"
    if len(x.shape) != 4 or len(node.output) != 1:
        raise e.error(node, "a pooling that is not of images")
    window = Window(a, tuple(a["kernel_shape"]), (x.shape[1], x.shape[2]))
    if window.dilations != (1, 1):
        raise e.error(node, "a dilated pooling")
    framed, padding = e.framed(x, window, node.output[0], lowest=not average)
    padded = any((*window.pads, *window.beyond))
    inside = bool(a.get("count_include_pad", 0))
    if average and padded and (any(window.beyond) or inside == (framed is x)):
        raise e.error(node, "this padding of an average")
    options = schema.Pool2DOptionsT()
    options.filterHeight, options.filterWidth = window.kernel
    options.strideH, options.strideW = window.strides
    options.padding = padding
    op = "AVERAGE_POOL_2D" if average else "MAX_POOL_2D"
    e.moved(node, op, [], framed, options)


def _mean(e: _Emitter, node: onnx.NodeProto) -> None:
    output, x = node.output[0], e.value(node.input[0])
    if node.op_type == "ReduceMean":
        a = attributes_of(node)
        axes = a.get("axes", e.graph.constants.get(node.input[1]) if node.input[1:] else None)
        axes = None if axes is None else sorted(int(i) % 4 for i in axes)
        if axes != [2, 3] or not a.get("keepdims", 1):
            raise e.error(node, "a mean over other axes than height and width")
    scales = e.graph.target(output)
    if scales is None or x.scales is None:
        x, scales = e.real(node.input[0]), None
    options = schema.ReducerOptionsT()
    options.keepDims = True
    axes_of = e.int32(f"{output}.axes", [1, 2])
    shape = _nhwc(e.graph.shape(output))
    e.values[output] = e.add("MEAN", [x.tensor, axes_of], output, shape, scales, options)


def _concat(e: _Emitter, node: onnx.NodeProto) -> None:
    output = node.output[0]
    read = [e.value(name) for name in node.input]
    scales = e.graph.target(output)
    if scales is None or any(x.scales is None for x in read):
        read, scales = [e.real(name) for name in node.input], None
    else:  # LiteRT joins what is of one scale
        read = [e.rounded(x, scales, f"{output}.part{i}") for i, x in enumerate(read)]
    shape = e.graph.shape(output)
    options = schema.ConcatenationOptionsT()
    options.axis = _axis(attributes_of(node)["axis"], len(shape))
    inputs = [x.tensor for x in read]
    e.values[output] = e.add("CONCATENATION", inputs, output, _nhwc(shape), scales, options)


def _axis(axis: int, rank: int) -> int:
    axis %= rank
    return (0, 3, 1, 2)[axis] if rank == 4 else axis


def _transposed(e: _Emitter, x: Value, order: tuple[int, ...], name: str) -> Value:
    shape = tuple(x.shape[i] for i in order)
    inputs = [x.tensor, e.int32(f"{name}.order", order)]
    return e.add("TRANSPOSE", inputs, name, shape, x.scales, schema.TransposeOptionsT())


def _reshaped(e: _Emitter, x: Value, shape: Shape, name: str) -> Value:
    options = schema.ReshapeOptionsT()
    options.newShape = list(shape)
    inputs = [x.tensor, e.int32(f"{name}.shape", shape)]
    return e.add("RESHAPE", inputs, name, shape, x.scales, options)


def _reshape(e: _Emitter, node: onnx.NodeProto) -> None:
    """In ONNX's order of values."""
    if _fill(e, node):
        return
    output = node.output[0]
    before, after = e.graph.shape(node.input[0]), e.graph.shape(output)
    x = e.value(node.input[0])
    if len(before) == 4 and before[1] != 1 and before[2:] != (1, 1):
        x = _transposed(e, x, (0, 3, 1, 2), f"{output}.planes")
    if len(after) == 4 and after[1] != 1 and after[2:] != (1, 1):
        planes = _reshaped(e, x, after, f"{output}.flat")
        e.values[output] = _transposed(e, planes, (0, 2, 3, 1), output)
    else:
        e.values[output] = _reshaped(e, x, _nhwc(after), output)


def _fill(e: _Emitter, first: onnx.NodeProto) -> bool:
    """A choice of positions, which ONNX makes in planes (fill `nearest`), of pixels as they lie."""
    x = e.value(first.input[0])
    between, gather = e.graph.reader(first.output[0], "Gather", x.scales)
    if gather is None:
        return False
    more, last = e.graph.reader(gather.output[0], "Reshape", x.scales)
    if last is None:
        return False
    index = e.graph.constants.get(gather.input[1])
    before, after = e.graph.shape(first.input[0]), e.graph.shape(last.output[0])
    if len(before) != 4 or len(after) != 4 or index is None or index.ndim != 1:
        return False
    n, c, h, w = before
    if (
        e.graph.shape(first.output[0]) != (n, c, h * w)
        or _axis(attributes_of(gather).get("axis", 0), 3) != 2
        or after[:2] != (n, c)
        or (index < -h * w).any()
        or (index >= h * w).any()
    ):
        return False
    rows = _reshaped(e, x, (n, h * w, c), first.output[0])
    options = schema.GatherOptionsT()
    options.axis = 1
    name = gather.output[0]
    source = e.int32(f"{name}.source", np.where(index < 0, index + h * w, index))
    inputs, shape = [rows.tensor, source], (n, index.size, c)
    chosen = e.add("GATHER", inputs, name, shape, x.scales, options)
    e.values |= dict.fromkeys([first.output[0], *between], rows)
    e.values |= dict.fromkeys([name, *more], chosen)
    e.values[last.output[0]] = _reshaped(e, chosen, _nhwc(after), last.output[0])
    return True


def _transpose(e: _Emitter, node: onnx.NodeProto) -> None:
    rank = len(e.graph.shape(node.input[0]))
    order = attributes_of(node).get("perm", list(range(rank))[::-1])
    if rank == 4:  # of (N, H, W, C) to (N, H, W, C)
        back = (0, 2, 3, 1)
        order = [(0, 3, 1, 2)[order[i]] for i in back]
    x = e.value(node.input[0])
    e.values[node.output[0]] = _transposed(e, x, tuple(order), node.output[0])


def _gather(e: _Emitter, node: onnx.NodeProto) -> None:
    index = e.graph.constants.get(node.input[1])
    rank = len(e.graph.shape(node.input[0]))
    if index is None or index.ndim != 1:
        raise e.error(node, "a selection that is computed")
    options = schema.GatherOptionsT()
    options.axis = _axis(attributes_of(node).get("axis", 0), rank)
    source = e.int32(f"{node.output[0]}.source", index)
    e.moved(node, "GATHER", [source], e.value(node.input[0]), options)


def _resize(e: _Emitter, node: onnx.NodeProto) -> None:
    a = attributes_of(node)
    before, after = e.graph.shape(node.input[0]), e.graph.shape(node.output[0])
    whole = all(n % o == 0 for n, o in zip(after, before, strict=True))
    if a.get("mode", "nearest") != "nearest" or not whole or before[:2] != after[:2]:
        raise e.error(node, "a resize but by whole factors to the nearest position")
    size = e.int32(f"{node.output[0]}.size", after[2:])
    options = schema.ResizeNearestNeighborOptionsT()
    e.moved(node, "RESIZE_NEAREST_NEIGHBOR", [size], e.value(node.input[0]), options)


def _pad(e: _Emitter, node: onnx.NodeProto) -> None:
    a, rank = attributes_of(node), len(e.graph.shape(node.input[0]))
    amounts = a.get("pads", e.graph.constants.get(node.input[1]) if node.input[1:] else None)
    value = (
        e.graph.constants.get(node.input[2], np.zeros(())) if len(node.input) > 2 else np.zeros(())
    )
    if amounts is None or a.get("mode", "constant") != "constant" or float(value.reshape(())) != 0:
        raise e.error(node, "a padding but by zeros")
    pairs = [(int(amounts[i]), int(amounts[rank + i])) for i in range(rank)]
    if rank == 4:
        pairs = [pairs[i] for i in (0, 2, 3, 1)]
    inputs = [e.int32(f"{node.output[0]}.pads", pairs)]
    e.moved(node, "PAD", inputs, e.value(node.input[0]), schema.PadOptionsT())


def _slice(e: _Emitter, node: onnx.NodeProto) -> None:
    shape = e.graph.shape(node.input[0])
    parts = [e.graph.constants.get(name) for name in node.input[1:]]
    if any(part is None for part in parts) or len(parts) < 2:
        raise e.error(node, "a selection that is computed")
    starts, _, *rest = (np.asarray(part).reshape(-1) for part in parts if part is not None)
    axes = rest[0] if rest else np.arange(len(starts))
    if len(rest) > 1 and (rest[1] != 1).any():
        raise e.error(node, "a selection by steps")
    begin = [0] * len(shape)
    for start, axis in zip(starts, axes, strict=True):
        size = shape[int(axis)]
        begin[_axis(int(axis), len(shape))] = int(min(start + size if start < 0 else start, size))
    name, after = node.output[0], _nhwc(e.graph.shape(node.output[0]))
    inputs = [e.int32(f"{name}.begin", begin), e.int32(f"{name}.size", after)]
    e.moved(node, "SLICE", inputs, e.value(node.input[0]), schema.SliceOptionsT())


def _split(e: _Emitter, node: onnx.NodeProto) -> None:
    x, begin = e.value(node.input[0]), 0
    axis = _axis(attributes_of(node).get("axis", 0), len(x.shape))
    for name in node.output:
        shape = _nhwc(e.graph.shape(name))
        first = [begin if i == axis else 0 for i in range(len(shape))]
        inputs = [x.tensor, e.int32(f"{name}.begin", first), e.int32(f"{name}.size", shape)]
        e.values[name] = e.add("SLICE", inputs, name, shape, x.scales, schema.SliceOptionsT())
        begin += shape[axis]


def _softmax(e: _Emitter, node: onnx.NodeProto) -> None:
    x = e.real(node.input[0])
    last = _axis(attributes_of(node).get("axis", -1), len(x.shape)) == len(x.shape) - 1
    if not last:
        raise e.error(node, "a softmax but over channels")
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    name = node.output[0]
    e.values[name] = e.add("SOFTMAX", [x.tensor], name, x.shape, None, options)


def _identity(e: _Emitter, node: onnx.NodeProto) -> None:
    e.values[node.output[0]] = e.value(node.input[0])


def _nhwc(shape: Shape) -> Shape:
    return (shape[0], *shape[2:], shape[1]) if len(shape) == 4 else shape


_RULES: dict[str, Callable[[_Emitter, onnx.NodeProto], None]] = {
    "Add": _binary,
    "AveragePool": _pool,
    "Clip": _relu,
    "Concat": _concat,
    "Conv": _conv,
    "DequantizeLinear": _dequantise,
    "Flatten": _reshape,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": _mean,
    "HardSigmoid": _hard_sigmoid,
    "HardSwish": _activation,
    "Identity": _identity,
    "LeakyRelu": _activation,
    "MatMul": _gemm,
    "MaxPool": _pool,
    "Mul": _binary,
    "Pad": _pad,
    "QuantizeLinear": _quantise,
    "ReduceMean": _mean,
    "Relu": _relu,
    "Reshape": _reshape,
    "Resize": _resize,
    "Sigmoid": _activation,
    "Slice": _slice,
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _reshape,
    "Tanh": _activation,
    "Transpose": _transpose,
    "Unsqueeze": _reshape,
}
