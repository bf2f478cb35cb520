"""Finding the convolutions of an ONNX model, what each is there for and where its mask goes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import onnx

from activsparse.export.graph import GraphIndex, TensorType, tensor_types
from activsparse.export.heads import is_head
from activsparse.masks import ConvShape, assign_phases
from activsparse.masks.roles import stems

__all__ = ["OPEN_SIZE", "OnnxConv", "find_convs"]

OPEN_SIZE = "the size of its output is open"
"""The problem of a convolution in a model whose input size is not fixed."""

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


@dataclass(frozen=True)
class OnnxConv:
    """One convolution.

    Attributes:
        name: the weight's name without `.weight` where it has that form (the module's name in a
            model exported from torch), else the node's name. Unique in the model.
        node_name: the node's own name.
        conv_output, norm_output: the tensor to mask at site `conv` and at site `norm`. They differ
        where a
            BatchNormalization alone reads the convolution.
        shape: what masks depend on; None where `problem` says why there can be none.
        phase: see `assign_phases`.
        role: `stem` reads the network's input, no convolution before it, or goes on with such a one
            (see `masks.roles`); `shortcut` is the 1x1 projection that a residual addition adds to a
            branch starting from the same tensor, pooled or not;
            the positions of a `head`, a 1x1 convolution, are the network's answer (see `heads`);
            all others are a `layer`.
        problem: why it cannot be masked, or None.
        elem_type: ONNX element type of the output.
        source: name of the convolution whose normalised output, through nothing but activations
            that keep zero, is its input: a mask there leaves zeros here. None where there is none.
        added: whether a residual addition adds its normalised output to another map.
    """

    name: str
    node_name: str
    conv_output: str
    norm_output: str
    shape: ConvShape | None
    phase: int
    role: str
    problem: str | None
    elem_type: int
    source: str | None = None
    added: bool = False

    @property
    def aliases(self) -> tuple[str, ...]:
        """Names that globs are matched with."""
        return (self.name, self.node_name)

    @property
    def enclosing(self) -> tuple[str, ...]:
        """An ONNX file knows no classes."""
        return ()

    @property
    def stem(self) -> bool:
        """Whether it is of the network's stem."""
        return self.role == "stem"

    @property
    def shortcut(self) -> bool:
        """Whether it projects a residual shortcut."""
        return self.role == "shortcut"

    @property
    def head(self) -> bool:
        """Whether its positions are the network's answer."""
        return self.role == "head"

    @property
    def normed(self) -> bool:
        """Whether a batch norm alone reads it."""
        return self.norm_output != self.conv_output


def find_convs(model: onnx.ModelProto, name: str = "model") -> list[OnnxConv]:
    """All Conv nodes of the main graph of the model called `name`, in the order of execution.

    Raises:
        ActivsparseError: shapes in the model do not fit each other.
    """
    index = GraphIndex(model.graph)
    types = tensor_types(model, name)
    additions, has_conv = _history(model.graph, index, types)
    nodes = [node for node in model.graph.node if node.op_type == "Conv" and not node.domain]
    residual = any(additions.values())
    found: list[OnnxConv] = []
    made_by: dict[str, str] = {}
    for node in nodes:
        names = {conv.name for conv in found}
        norm_output = _norm_output(node.output[0], index)
        shape, problem = _shape(node, index, types)
        role = "layer"
        if not has_conv.get(node.input[0], False):
            role = "stem"
        elif shape is not None and _is_shortcut(node, norm_output, shape, index):
            role = "shortcut"
        elif shape is not None and shape.kernel == (1, 1) and is_head(node, index):
            role = "head"
        found.append(
            OnnxConv(
                name=next(name for name in _names(node, index) if name not in names),
                node_name=node.name,
                conv_output=node.output[0],
                norm_output=norm_output,
                shape=shape,
                phase=additions.get(node.input[0], 0) if residual else len(found),
                role=role,
                problem=problem,
                elem_type=types.get(node.output[0], (onnx.TensorProto.FLOAT, ()))[0],
                source=made_by.get(_before_activations(node.input[0], index)),
                added=any(
                    _is_residual_addition(reader, index, types)
                    for reader in index.consumers.get(norm_output, [])
                ),
            )
        )
        made_by[norm_output] = found[-1].name
    order = {conv.name: place for place, conv in enumerate(found)}
    phases = assign_phases(
        [conv.phase for conv in found],
        [None if conv.source is None else order[conv.source] for conv in found],
        [conv.shape is not None and conv.shape.pointwise for conv in found],
        _sums(model.graph, index, types, {name: order[conv] for name, conv in made_by.items()}),
    )
    made = {conv.conv_output: place for place, conv in enumerate(found)}
    stem = stems(
        [conv.shape for conv in found],
        [conv.role == "stem" for conv in found],
        [made.get(_alone_before(node.input[0], index) or "") for node in nodes],
    )
    return [
        replace(conv, phase=phase, role="stem" if is_stem else conv.role)
        for conv, phase, is_stem in zip(found, phases, stem, strict=True)
    ]


def _sums(
    graph: onnx.GraphProto, index: GraphIndex, types: dict[str, TensorType], made_by: dict[str, int]
) -> Iterator[tuple[int, int]]:
    """The convolutions whose outputs residual additions add, zeros kept."""
    for node in graph.node:
        if _is_residual_addition(node, index, types):
            left, right = (made_by.get(_before_activations(name, index)) for name in node.input)
            if left is not None and right is not None:
                yield left, right


def _history(
    graph: onnx.GraphProto, index: GraphIndex, types: dict[str, TensorType]
) -> tuple[dict[str, int], dict[str, bool]]:
    """For every tensor, how many residual additions and whether a convolution lie before it."""
    additions: dict[str, int] = {}
    has_conv: dict[str, bool] = {}
    for node in graph.node:
        count = max((additions.get(name, 0) for name in node.input), default=0)
        count += _is_residual_addition(node, index, types)
        seen = node.op_type == "Conv" or any(has_conv.get(name, False) for name in node.input)
        for name in node.output:
            additions[name], has_conv[name] = count, seen
    return additions, has_conv


def _is_residual_addition(
    node: onnx.NodeProto, index: GraphIndex, types: dict[str, TensorType]
) -> bool:
    if node.op_type != "Add" or any(index.constant(name) is not None for name in node.input):
        return False
    left, right = (types.get(name, (0, ()))[1] for name in node.input)
    return len(left) == 4 and left == right


def _norm_output(conv_output: str, index: GraphIndex) -> str:
    reader = index.only_consumer(conv_output)
    if reader is not None and reader.op_type == "BatchNormalization":
        return str(reader.output[0])
    return conv_output


def _before_activations(tensor: str, index: GraphIndex) -> str:
    """The tensor that activations which keep zero made `tensor` of."""
    node = index.producers.get(tensor)
    while node is not None and _keeps_zero(node, index):
        # SiLU is x * sigmoid(x).
        gates = ("Sigmoid", "HardSigmoid")
        tensor = next(
            name
            for name in node.input
            if name not in index.producers or index.producers[name].op_type not in gates
        )
        node = index.producers.get(tensor)
    return tensor


def _keeps_zero(node: onnx.NodeProto, index: GraphIndex) -> bool:
    if node.op_type == "Clip":
        lowest = index.constant(node.input[1]) if len(node.input) > 1 and node.input[1] else None
        return lowest is None or not onnx.numpy_helper.to_array(lowest).any()
    if node.op_type == "Mul":
        gates = [index.producers.get(name) for name in node.input]
        return any(
            gate is not None
            and gate.op_type in ("Sigmoid", "HardSigmoid")
            and gate.input[0] in node.input
            for gate in gates
        )
    return node.op_type in ("Relu", "LeakyRelu", "HardSwish", "Identity")


def _is_shortcut(
    node: onnx.NodeProto, norm_output: str, shape: ConvShape, index: GraphIndex
) -> bool:
    addition = index.only_consumer(norm_output)
    if shape.kernel != (1, 1) or addition is None or addition.op_type != "Add":
        return False
    return any(
        index.is_ancestor(tensor, other)
        for tensor in _back(node.input[0], index)
        for other in addition.input
        if other != norm_output
    )


def _back(tensor: str, index: GraphIndex) -> Iterator[str]:
    """The tensor and what it was made of alone, back to a convolution or to where two meet."""
    yield tensor
    while True:
        before = _before_activations(tensor, index)
        if before == tensor:
            node = index.producers.get(tensor)
            data = (
                [] if node is None else [n for n in node.input if n and index.constant(n) is None]
            )
            if node is None or node.op_type == "Conv" or len(data) != 1:
                return
            before = data[0]
        yield (tensor := before)


def _alone_before(tensor: str, index: GraphIndex) -> str | None:
    """The output of the convolution that alone leads to `tensor`, without pooling."""
    for step in _back(tensor, index):
        readers = [n for n in index.consumers.get(step, []) if "Sigmoid" not in n.op_type]
        node = index.producers.get(step)
        if len(readers) > 1 or node is None or "Pool" in node.op_type:
            return None
        if node.op_type == "Conv":
            return step
    return None


def _names(node: onnx.NodeProto, index: GraphIndex) -> list[str]:
    """Names for a convolution, best first; the last one is unique in any graph."""
    weight = str(node.input[1])
    module = [weight.removesuffix(".weight")] if weight.endswith(".weight") else []
    return [*module, *([node.name] if node.name else []), str(node.output[0])]


def _shape(
    node: onnx.NodeProto, index: GraphIndex, types: dict[str, TensorType]
) -> tuple[ConvShape | None, str | None]:
    """What masks depend on, or why there can be no mask."""
    weight = index.constant(node.input[1])
    if weight is None:
        return None, "its weights are no constant"
    if len(weight.dims) != 4:
        return None, "not a convolution over height and width"
    if weight.data_type not in _FLOATS:
        return None, "its weights are no floats"
    sizes = types.get(node.output[0], (0, ()))[1]
    if len(sizes) != 4 or sizes[2] is None or sizes[3] is None:
        return None, OPEN_SIZE
    if sizes[2] * sizes[3] == 1:
        return None, "its output has a single position"
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    stride = attributes.get("strides", [1, 1])
    dilation = attributes.get("dilations", [1, 1])
    group = int(attributes.get("group", 1))
    out_channels, group_channels, height, width = weight.dims
    shape = ConvShape(
        kernel=(height, width),
        stride=(stride[0], stride[1]),
        group=group,
        in_channels=group * group_channels,
        out_channels=out_channels,
        output=(sizes[2], sizes[3]),
        dilation=(dilation[0], dilation[1]),
    )
    return shape, None
