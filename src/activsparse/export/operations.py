"""An ONNX graph as `masks.network` takes it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import onnx

from activsparse.errors import ActivsparseError
from activsparse.export.graph import GraphIndex, TensorType
from activsparse.export.spelled_norms import spelled_norms
from activsparse.masks.operations import Kind, Operation
from activsparse.masks.shape import ConvShape
from activsparse.onnx_file.bodies import reads

__all__ = ["conv_shape", "operations", "weight_type"]

_KINDS = {
    Kind.NORM: ("BatchNormalization",),
    Kind.SAME: ("Cast", "Dropout", "Identity"),
    Kind.ZERO: (
        "Abs", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Elu", "Erf", "Floor", "Gelu",
        "HardSwish", "LeakyRelu", "Mish", "Neg", "PRelu", "Relu", "Round", "Selu", "Sign", "Sin",
        "Sinh", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
    ),
    Kind.POINT: (
        "Acos", "Acosh", "Cos", "Cosh", "Exp", "HardSigmoid", "Log", "Reciprocal", "Shrink",
        "Sigmoid", "Softplus",
    ),
    Kind.ADD: ("Sum",),
    Kind.COMBINE: ("Max", "Mean", "Min", "Sub"),
    Kind.POOL: (
        "Attention", "AveragePool", "Einsum", "GRU", "Gemm", "GlobalAveragePool", "GlobalLpPool",
        "GlobalMaxPool", "LSTM", "LpPool", "MatMul", "MaxPool", "RNN", "ReduceL1", "ReduceL2",
        "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
        "ReduceSum", "ReduceSumSquare",
    ),
    Kind.RESIZE: ("Resize", "Upsample"),
    Kind.SLICE: ("Expand", "Gather", "Slice", "Split", "Tile"),
    Kind.RESHAPE: ("Flatten", "Reshape", "Squeeze", "Unsqueeze"),
    Kind.PERMUTE: ("Transpose",),
}  # fmt: skip
_KIND_OF = {op: kind for kind, ops in _KINDS.items() for op in ops}

# What depends on sizes only is known before the network runs.
_SIZES = ("Shape", "Size")


def operations(
    graph: onnx.GraphProto, index: GraphIndex, types: Mapping[str, TensorType]
) -> Iterator[Operation]:
    """All that is computed from the graph's inputs, by names of tensors; see `masks.operations`.

    Convolutions are named by their first output.
    """
    computed = {value.name for value in graph.input if index.constant(value.name) is None}
    norms = {norm.output: norm for norm in spelled_norms(graph, index, types)}
    inner = {norm.inner for norm in norms.values()}
    for node in graph.node:
        inputs = [name for name in reads(node) if name in computed]
        outputs = tuple(str(name) for name in node.output if name)
        if not inputs or node.op_type in _SIZES or not outputs:
            continue
        computed.update(outputs)
        if outputs[0] in inner:
            continue
        if outputs[0] in norms:
            yield Operation(Kind.NORM, (norms[outputs[0]].input,), outputs, outputs[0])
            continue
        kind, shape = _kind(node, inputs, index), None
        if node.op_type == "Conv" and node.input[0] in computed:
            inputs = [node.input[0]]
            shape = conv_shape(node, index, types)
            flat = len(types.get(outputs[0], (0, (0,) * 4))[1]) != 4
            kind = Kind.OTHER if flat else Kind.CONVOLUTION
        yield Operation(kind, tuple(inputs), outputs, outputs[0], shape)


def _kind(node: onnx.NodeProto, computed: list[str], index: GraphIndex) -> Kind:
    if node.domain not in ("", "ai.onnx"):
        return Kind.OTHER
    special = _SPECIAL.get(node.op_type)
    if special is not None:
        return special(node, computed, index)
    return _KIND_OF.get(node.op_type, Kind.OTHER)


def _same_with(number: float, else_: Kind) -> Callable[..., Kind]:
    """What a sum or product starts with where a branch is left out changes nothing."""

    def kind(node: onnx.NodeProto, computed: list[str], index: GraphIndex) -> Kind:
        constants = [place for place, name in enumerate(node.input) if name not in computed]
        same = len(node.input) == 2 and any(
            _number(node, i, "", index) == number for i in constants
        )
        return Kind.SAME if same else else_

    return kind


def _clip(node: onnx.NodeProto, computed: list[str], index: GraphIndex) -> Kind:
    low = _number(node, 1, "min", index)
    high = _number(node, 2, "max", index)
    keeps = (low is None or low <= 0) and (high is None or high >= 0)
    return Kind.ZERO if keeps else Kind.POINT


def _pad(node: onnx.NodeProto, computed: list[str], index: GraphIndex) -> Kind:
    mode = next((a.s for a in node.attribute if a.name == "mode"), b"constant")
    keeps = mode == b"constant" and not _number(node, 2, "value", index)
    return Kind.ZERO if keeps else Kind.OTHER


def _divide(node: onnx.NodeProto, computed: list[str], index: GraphIndex) -> Kind:
    return Kind.ZERO if computed == [node.input[0]] else Kind.COMBINE


def _power(node: onnx.NodeProto, computed: list[str], index: GraphIndex) -> Kind:
    exponent = _number(node, 1, "", index)
    return Kind.ZERO if exponent is not None and exponent > 0 else Kind.COMBINE


def _transposed(node: onnx.NodeProto, computed: list[str], index: GraphIndex) -> Kind:
    """One whose windows overlap mixes positions; else each position becomes several."""
    weight = index.constant(node.input[1]) if len(node.input) > 1 else None
    sizes = [] if weight is None else list(weight.dims[2:])
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    strides = attributes.get("strides", [1] * len(sizes))
    overlap = any(size > stride for size, stride in zip(sizes, strides, strict=False))
    return Kind.POOL if overlap else Kind.OTHER


_SPECIAL: Mapping[str, Callable[[onnx.NodeProto, list[str], GraphIndex], Kind]] = {
    "Add": _same_with(0.0, Kind.ADD),
    "Clip": _clip,
    "ConvTranspose": _transposed,
    "Div": _divide,
    "Mul": _same_with(1.0, Kind.MULTIPLY),
    "Pad": _pad,
    "Pow": _power,
}


def _number(node: onnx.NodeProto, place: int, attribute: str, index: GraphIndex) -> float | None:
    """A constant input, or the attribute it was in older sets of operators; None where absent."""
    if len(node.input) > place and node.input[place]:
        constant = index.constant(node.input[place])
        if constant is None:
            return float("nan")
        values = onnx.numpy_helper.to_array(constant)
        return float(values.flat[0]) if values.size == 1 else float("nan")
    return next((float(a.f) for a in node.attribute if a.name == attribute), None)


def weight_type(
    node: onnx.NodeProto, index: GraphIndex, types: Mapping[str, TensorType]
) -> tuple[int, tuple[int, ...]] | None:
    """Element type and sizes of a Conv's weights; None where they depend on the network's input.

    Raises:
        ActivsparseError: it has none.
    """
    if len(node.input) < 2:
        raise ActivsparseError(
            f"node {node.name or str(node.output[0])!r} (Conv) has no weights; export the model "
            "again"
        )
    name = str(node.input[1])
    if not index.is_fixed(name):
        return None
    constant = index.constant(name)
    if constant is not None:
        return constant.data_type, tuple(constant.dims)
    elem_type, sizes = types.get(name, (0, ()))
    known = tuple(size for size in sizes if size is not None)
    return (elem_type, known) if known and len(known) == len(sizes) else None


def conv_shape(
    node: onnx.NodeProto, index: GraphIndex, types: Mapping[str, TensorType]
) -> ConvShape | None:
    """What masks depend on of a Conv over height and width; None where it is not constant."""
    weight = weight_type(node, index, types)
    sizes = types.get(node.output[0], (0, ()))[1]
    if weight is None or len(weight[1]) != 4 or len(sizes) != 4:
        return None
    if sizes[2] is None or sizes[3] is None:
        return None
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    stride = attributes.get("strides", [1, 1])
    dilation = attributes.get("dilations", [1, 1])
    group = int(attributes.get("group", 1))
    out_channels, group_channels, height, width = weight[1]
    return ConvShape(
        kernel=(height, width),
        stride=(stride[0], stride[1]),
        group=group,
        in_channels=group * group_channels,
        out_channels=out_channels,
        output=(sizes[2], sizes[3]),
        dilation=(dilation[0], dilation[1]),
    )
