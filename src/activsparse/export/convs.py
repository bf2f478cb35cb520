"""Finding the convolutions of an ONNX model, what each is there for and where its mask goes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx

from activsparse.export.graph import GraphIndex, TensorType, tensor_types
from activsparse.export.operations import conv_shape, operations, weight_type
from activsparse.masks import ConvShape
from activsparse.masks.network import find_convolutions
from activsparse.masks.operations import Sizes, Value
from activsparse.masks.parallel import part_problem

__all__ = ["OPEN_SIZE", "OnnxConv", "find_convs"]

OPEN_SIZE = "the size of its output is open"
"""The problem of a convolution in a model whose input size is not fixed."""
BLUR = "a blur: one fixed filter for all channels, no layer"
"""The problem of a convolution that no module of a network stands for."""

_FLOATS = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)


@dataclass(frozen=True)
class OnnxConv:
    """One convolution.

    Attributes:
        name: the weight's name without `.weight` where it has that form (the module's name in a
            model exported from torch), else the node's name. Unique in the model.
        node_name: the node's own name.
        conv_output, norm_output: the tensor to mask at site `conv` and at site `norm`. They
            differ where a BatchNormalization alone reads the convolution.
        shape: what masks depend on; None where `problem` says why there can be none.
        phase: see `assign_phases`.
        role: `stem`, `shortcut`, `head` or `layer`, see `masks.network`.
        problem: why it cannot be masked, or None.
        elem_type: ONNX element type of the output.
        source: name of the convolution whose normalised output, through nothing but activations
            that keep zero, is its input: a mask there leaves zeros here. None where there is none.
        added: whether it ends a residual branch, see `masks.network`.
        reader: name of the convolution that alone reads its output, through nothing but functions
            of each element, or None.
        part_of: name of the convolution at whose sum this one is masked with it, or None.
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
    reader: str | None = None
    part_of: str | None = None

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


def find_convs(model: onnx.ModelProto, name: str = "model", sums: bool = False) -> list[OnnxConv]:
    """All Conv nodes of the main graph of the model called `name`, in the order of execution.

    Args:
        model: with shapes as far as they are known.
        name: for error messages.
        sums: take parallel branches for one layer, which is masked where they are added.

    Raises:
        ActivsparseError: shapes in the model do not fit each other.
    """
    index = GraphIndex(model.graph)
    types = tensor_types(model, name)
    sizes: dict[Value, Sizes] = {tensor: size for tensor, (_, size) in types.items()}
    results = [tensor for tensor in index.outputs if tensor in index.producers]
    network = find_convolutions(
        operations(model.graph, index, types), results, sizes, lambda _: sums
    )
    known = {conv.operation.name: conv for conv in network}
    names: dict[str, str] = {}  # by output
    taken: set[str] = set()
    blurs: set[str] = set()
    readers: dict[str, str] = {}
    found: list[OnnxConv] = []
    # By weights and size: convolutions that are one layer, which runs several times.
    runs: dict[tuple[str, Sizes], list[int]] = {}
    for node in model.graph.node:
        if node.op_type != "Conv" or node.domain:
            continue
        size = types.get(str(node.output[0]), (0, ()))[1][2:]
        runs.setdefault((str(node.input[1]), size), []).append(len(found))
        output = given = str(node.output[0])
        names[output] = next(n for n in _names(node, index) if n not in taken)
        taken.add(names[output])
        conv = known.get(output)
        if conv is not None:
            given = str(conv.operation.output)
        problem = _problem(node, index, types)
        if problem == BLUR:
            blurs.add(output)
        source = None if conv is None or conv.source is None else network[conv.source]
        if source is not None and str(source.operation.name) in blurs:
            source = None
        found.append(
            OnnxConv(
                name=names[output],
                node_name=node.name,
                conv_output=given,
                norm_output=given if conv is None or conv.norm is None else str(conv.norm.output),
                shape=conv_shape(node, index, types) if problem is None else None,
                phase=0 if conv is None else conv.phase,
                role="layer" if conv is None else conv.role,
                problem=problem,
                elem_type=types.get(output, (onnx.TensorProto.FLOAT, ()))[0],
                source=None if source is None else names[str(source.operation.name)],
                added=conv is not None and conv.added,
            )
        )
        if conv is not None and conv.reader is not None:
            readers[given] = str(network[conv.reader].operation.name)
    found = [replace(conv, reader=names.get(readers.get(conv.conv_output, ""))) for conv in found]
    leaders = {names[str(p.name)]: names[str(c.operation.name)] for c in network for p in c.parts}
    found = [_as_part(conv, leaders.get(conv.name)) for conv in found]
    for same in runs.values():
        if len(same) > 1:
            for i, run in zip(same, _one_layer([found[i] for i in same]), strict=True):
                found[i] = run
    return found


def _as_part(conv: OnnxConv, leader: str | None) -> OnnxConv:
    if leader is None:
        return conv
    return replace(conv, part_of=leader, problem=conv.problem or part_problem(leader))


def _one_layer(runs: list[OnnxConv]) -> list[OnnxConv]:
    """Give all runs of a layer one place in the network, as a module that runs several times has.

    It is masked before its norms, of which there may be several.
    """
    first = runs[0]
    head = all(run.head for run in runs)
    role = "layer" if first.head and not head else first.role
    return [
        replace(
            run,
            norm_output=run.conv_output,
            phase=first.phase,
            role=role,
            source=first.source,
            added=any(other.added for other in runs),
            reader=None,
        )
        for run in runs
    ]


def _names(node: onnx.NodeProto, index: GraphIndex) -> list[str]:
    """Names for a convolution, best first; the last one is unique in any graph."""
    weights = [str(node.input[1]), *index.roots(str(node.input[1]))]
    module = [name.removesuffix(".weight") for name in weights if name.endswith(".weight")][:1]
    return [*module, *([node.name] if node.name else []), str(node.output[0])]


def _is_blur(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Whether all channels are averaged by one filter, as before a stride without aliases.

    A module's weights are a layer's, whatever they hold.
    """
    weight = index.constant(str(node.input[1]))
    if (
        weight is None
        or node.input[1].endswith(".weight")
        or weight.dims[0] < 2
        or weight.dims[1] != 1
        or len(node.input) > 2
    ):
        return False
    if weight.dims[2] * weight.dims[3] < 2:
        return False
    filters = onnx.numpy_helper.to_array(weight)
    return bool(
        (filters == filters[:1]).all()
        and (filters >= 0).all()
        and abs(float(filters[0].sum()) - 1) < 1e-3
    )


def _problem(
    node: onnx.NodeProto, index: GraphIndex, types: Mapping[str, TensorType]
) -> str | None:
    """Why there can be no mask."""
    weight = weight_type(node, index, types)
    if weight is None:
        return "its weights are no constant"
    if len(weight[1]) != 4:
        return "not a convolution over height and width"
    if weight[0] not in _FLOATS:
        return "its weights are no floats"
    if _is_blur(node, index):
        return BLUR
    sizes = types.get(node.output[0], (0, ()))[1]
    if len(sizes) != 4 or sizes[2] is None or sizes[3] is None:
        return OPEN_SIZE
    if sizes[2] * sizes[3] == 1:
        return "its output has a single position"
    return None
