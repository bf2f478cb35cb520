"""Putting masks into an ONNX graph and taking them out again, with standard operators only.

The masked tensor keeps its name, so that its readers, graph outputs and sub-graphs included, need
no change; the tensor before the mask gets the name with `.dense` appended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from activsparse.export.convs import OnnxConv
from activsparse.export.graph import GraphIndex
from activsparse.masks import Mask, nearest_source
from activsparse.masks.stored import MASK, SOURCE

__all__ = [
    "MASK_SUFFIX",
    "SOURCE_SUFFIX",
    "FoundMask",
    "find_masks",
    "insert_mask",
    "insert_masks",
    "remove_masks",
]

MASK_SUFFIX = f".{MASK}"
SOURCE_SUFFIX = f".{SOURCE}"
_FLAT_SUFFIX = ".activation_flat_shape"
_SHAPE_SUFFIX = ".activation_shape"


@dataclass(frozen=True)
class FoundMask:
    """A mask in a graph: its nodes in order, the tensor before and after, and what it is.

    `constant` is the name of the tensor that holds the mask (`zero` fill) or the source positions
    (`nearest`), `conv` that of the masked convolution's result.
    """

    nodes: tuple[onnx.NodeProto, ...]
    before: str
    after: str
    constant: str
    fill: str
    conv: str


def insert_mask(
    model: onnx.ModelProto, conv: OnnxConv, mask: Mask, site: str = "norm", fill: str = "zero"
) -> None:
    """Mask the output of one convolution; see `insert_masks`."""
    insert_masks(model, [(conv, mask, fill)], site)


def insert_masks(
    model: onnx.ModelProto, masks: Sequence[tuple[OnnxConv, Mask, str]], site: str = "norm"
) -> None:
    """Mask the outputs of convolutions, changing `model`.

    Args:
        model: holds the convolutions; no masks there yet.
        masks: for each a convolution as found by `find_convs`, bool (OH, OW), True = computed, and
            the fill. `zero`: a Mul by a (1, 1, OH, OW) constant. `nearest`: Reshape to
            (N, C, OH * OW), Gather of the nearest kept position, Reshape back.
        site: `norm`, after the batch normalisation where there is one, or `conv`, before it.
    """
    nodes = model.graph.node
    places = {tensor: i for i, node in enumerate(nodes) for tensor in node.output}
    inserted = []
    for conv, mask, fill in masks:
        tensor = conv.norm_output if site == "norm" else conv.conv_output
        producer = nodes[places[tensor]]
        producer.output[list(producer.output).index(tensor)] = f"{tensor}.dense"
        inserted.append((places[tensor], _mask_nodes(model, conv, tensor, mask, fill)))
    # From the end, so that the places of the others hold.
    for place, new in sorted(inserted, key=lambda one: one[0], reverse=True):
        for node in reversed(new):
            nodes.insert(place + 1, node)


def _mask_nodes(
    model: onnx.ModelProto, conv: OnnxConv, tensor: str, mask: Mask, fill: str
) -> list[onnx.NodeProto]:
    dense = f"{tensor}.dense"
    if fill == "zero":
        dtype = onnx.helper.tensor_dtype_to_np_dtype(conv.elem_type)
        name = _constant(model, conv.name + MASK_SUFFIX, mask[None, None].astype(dtype))
        nodes = [onnx.helper.make_node("Mul", [dense, name], [tensor])]
    else:
        source = nearest_source(mask).astype(np.int64)
        name = _constant(model, conv.name + SOURCE_SUFFIX, source)
        # Zeros copy the sizes of batch and channels from the input, which may be open.
        flat = _constant(model, conv.name + _FLAT_SUFFIX, np.array([0, 0, -1]))
        back = _constant(model, conv.name + _SHAPE_SUFFIX, np.array([0, 0, *mask.shape]))
        nodes = [
            onnx.helper.make_node("Reshape", [dense, flat], [f"{tensor}.flat"]),
            onnx.helper.make_node("Gather", [f"{tensor}.flat", name], [f"{tensor}.filled"], axis=2),
            onnx.helper.make_node("Reshape", [f"{tensor}.filled", back], [tensor]),
        ]
    for offset, node in enumerate(nodes):
        node.name = f"{conv.name}{MASK_SUFFIX}_{node.op_type}" + f"_{offset}" * (offset > 0)
    return nodes


def find_masks(graph: onnx.GraphProto) -> list[FoundMask]:
    """All masks in a graph, whoever put them there.

    A mask follows a convolution, with nothing but work on single positions between them (norms,
    activations, additions, other masks). It is a Mul by a constant (1, 1, H, W) of zeros and ones
    with more than one position, or Reshape, Gather along axis 2 and Reshape with a constant index
    that lets some positions hold the values of others, which keep their own. The same nodes
    elsewhere, as in attention, are none of ours.
    """
    index = GraphIndex(graph)
    sizes = _sizes(graph)
    masks = []
    for node in graph.node:
        if node.op_type == "Mul":
            for data, factor in (node.input, reversed(node.input)):
                if (
                    _is_mask(factor, sizes.get(data), index)
                    and not _is_mask(data, None, index)
                    and (conv := _conv_before(data, index))
                ):
                    masks.append(FoundMask((node,), data, node.output[0], factor, "zero", conv))
                    break
        elif node.op_type == "Reshape":
            nodes = _fill_before(node, index)
            if nodes is not None and (conv := _conv_before(nodes[0].input[0], index)):
                source, before = nodes[1].input[1], nodes[0].input[0]
                if index.only_consumer(nodes[0].output[0]) is None:
                    nodes = nodes[1:]  # others read the flat tensor, too
                masks.append(FoundMask(nodes, before, node.output[0], source, "nearest", conv))
    return masks


def remove_masks(model: onnx.ModelProto, masks: Sequence[FoundMask] | None = None) -> int:
    """Take masks out of `model`: those given, by default all; returns how many there were."""
    graph = model.graph
    chosen = find_masks(graph) if masks is None else masks
    constants = {name for mask in chosen for node in mask.nodes for name in node.input}
    places = {id(node): i for i, node in enumerate(graph.node)}
    producers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    results = {value.name for value in graph.output}
    gone, joined = [], set()
    for mask in chosen:
        gone += [places[id(node)] for node in mask.nodes]
        producer = producers.get(mask.before)
        if producer is None or mask.before in results:
            # A name of the graph's interface must stay.
            identity = onnx.helper.make_node("Identity", [mask.before], [mask.after])
            mask.nodes[-1].CopyFrom(identity)
            gone.remove(places[id(mask.nodes[-1])])
            continue
        producer.output[list(producer.output).index(mask.before)] = mask.after
        producers[mask.after] = producer
        for node in readers.get(mask.before, ()):
            for i, name in enumerate(node.input):
                if name == mask.before:
                    node.input[i] = mask.after
            readers.setdefault(mask.after, []).append(node)
        joined.add(mask.before)
    for place in sorted(gone, reverse=True):
        del graph.node[place]
    for value in [value for value in graph.value_info if value.name in joined]:
        graph.value_info.remove(value)
    if chosen:
        _drop_unread(graph, constants)
    return len(chosen)


def _constant(model: onnx.ModelProto, name: str, value: npt.NDArray[np.generic]) -> str:
    tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(value), name)
    model.graph.initializer.append(tensor)
    if model.ir_version < 4:
        # Before version 4 of the format initializers had to be listed as inputs, too.
        info = onnx.helper.make_tensor_value_info(name, tensor.data_type, value.shape)
        model.graph.input.append(info)
    return name


def _sizes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    """The sizes (H, W) of tensors (N, C, H, W), where the file notes them."""
    sizes = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if len(dims) == 4 and all(dim.dim_value > 0 for dim in dims[2:]):
            sizes[value.name] = tuple(dim.dim_value for dim in dims[2:])
    return sizes


def _is_mask(tensor: str, size: tuple[int, ...] | None, index: GraphIndex) -> bool:
    """Whether a constant holds zeros and ones for all channels, of (H, W) `size` where known."""
    constant = index.constant(tensor)
    if constant is None or len(constant.dims) != 4 or tuple(constant.dims[:2]) != (1, 1):
        return False
    if size is not None and tuple(constant.dims[2:]) != size:
        return False
    value = onnx.numpy_helper.to_array(constant)
    return value.size > 1 and bool(np.isin(value, (0, 1)).all())


def _fill_before(last: onnx.NodeProto, index: GraphIndex) -> tuple[onnx.NodeProto, ...] | None:
    """The Reshape, Gather and Reshape of a nearest fill that ends with `last`."""
    gather = index.producers.get(last.input[0])
    if gather is None or gather.op_type != "Gather" or _axis(gather) != 2:
        return None
    first = index.producers.get(gather.input[0])
    constant = index.constant(gather.input[1])
    if first is None or first.op_type != "Reshape" or constant is None or len(constant.dims) != 1:
        return None
    if index.only_consumer(gather.output[0]) is None:
        return None
    source = onnx.numpy_helper.to_array(constant)
    if source.dtype.kind != "i":
        return None
    inside = bool(((source >= 0) & (source < source.size)).all())
    if not inside or not np.array_equal(source[source], source):
        return None
    for reshape, rank, positions in ((first, 3, 1), (last, 4, 2)):
        shape = index.constant(reshape.input[1]) if len(reshape.input) > 1 else None
        if shape is None:  # computed from the batch
            continue
        if len(shape.dims) != 1:
            return None
        sizes = onnx.numpy_helper.to_array(shape)[2:]
        if len(sizes) != rank - 2 or (
            (sizes > 0).all() and np.prod(sizes[-positions:]) != source.size
        ):
            return None
    return first, gather, last


# What works on every position by itself.
_POINTWISE = {
    "Add",
    "BatchNormalization",
    "Cast",
    "Celu",
    "Clip",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Elu",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "InstanceNormalization",
    "LeakyRelu",
    "Mish",
    "Mul",
    "PRelu",
    "QuantizeLinear",
    "Relu",
    "Selu",
    "Sigmoid",
    "Softplus",
    "Sub",
    "Sum",
    "Swish",
    "Tanh",
}


def _conv_before(tensor: str, index: GraphIndex) -> str:
    """The result of the convolution that made `tensor`, or ''.

    Nothing but `_POINTWISE` and fills may be between them.
    """
    waiting, seen = [tensor], set()
    while waiting:
        name = waiting.pop()
        node = index.producers.get(name)
        if node is None or name in seen:
            continue
        seen.add(name)
        if node.op_type == "Conv":
            return str(node.output[0])
        if node.op_type in _POINTWISE:
            waiting.extend(filter(None, node.input))
        elif node.op_type == "Reshape" and (nodes := _fill_before(node, index)) is not None:
            waiting.append(nodes[0].input[0])
    return ""


def _axis(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "axis"), 0)


def _drop_unread(graph: onnx.GraphProto, constants: set[str]) -> None:
    """Remove those of `constants` nobody reads any more, however they are stored."""
    index = GraphIndex(graph)
    kept = index.consumers.keys() | index.outputs
    unread = constants - kept
    for values in (graph.initializer, graph.input, graph.value_info):
        for value in [value for value in values if value.name in unread]:
            values.remove(value)
    for node in [n for n in graph.node if n.op_type == "Constant" and n.output[0] in unread]:
        graph.node.remove(node)
