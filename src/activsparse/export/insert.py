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

__all__ = ["MASK_SUFFIX", "SOURCE_SUFFIX", "FoundMask", "find_masks", "insert_mask", "remove_masks"]

MASK_SUFFIX = ".activation_mask"
SOURCE_SUFFIX = ".activation_source"
_FLAT_SUFFIX = ".activation_flat_shape"
_SHAPE_SUFFIX = ".activation_shape"


@dataclass(frozen=True)
class FoundMask:
    """A mask in a graph: its nodes in order, the tensor before and after, and what it is.

    `constant` is the name of the tensor that holds the mask (`zero` fill) or the source positions
    (`nearest`).
    """

    nodes: tuple[onnx.NodeProto, ...]
    before: str
    after: str
    constant: str
    fill: str


def insert_mask(
    model: onnx.ModelProto, conv: OnnxConv, mask: Mask, site: str = "norm", fill: str = "zero"
) -> None:
    """Mask the output of `conv`, changing `model`.

    Args:
        model: holds `conv`; no mask there yet.
        conv: as found by `find_convs`.
        mask: bool (OH, OW), True = computed.
        site: `norm`, after the batch normalisation where there is one, or `conv`, before it.
        fill: `zero`: a Mul by a (1, 1, OH, OW) constant. `nearest`: Reshape to (N, C, OH * OW),
            Gather of the nearest kept position, Reshape back.
    """
    graph = model.graph
    tensor = conv.norm_output if site == "norm" else conv.conv_output
    dense = f"{tensor}.dense"
    position, producer = next(
        (i, node) for i, node in enumerate(graph.node) if tensor in node.output
    )
    producer.output[list(producer.output).index(tensor)] = dense

    nodes = []
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
        node.name = f"{conv.name}.activation_mask_{node.op_type}" + f"_{offset}" * (offset > 0)
        graph.node.insert(position + 1 + offset, node)


def find_masks(graph: onnx.GraphProto) -> list[FoundMask]:
    """All masks in a graph, whoever put them there.

    A mask is a Mul by a constant (1, 1, H, W) of zeros and ones with more than one position, or a
    Reshape, Gather along axis 2 and Reshape with a constant index.
    """
    index = GraphIndex(graph)
    masks = []
    for node in graph.node:
        if node.op_type == "Mul":
            for data, factor in (node.input, reversed(node.input)):
                if _is_mask(factor, index):
                    masks.append(FoundMask((node,), data, node.output[0], factor, "zero"))
                    break
        elif node.op_type == "Gather" and _axis(node) == 2:
            before = index.producers.get(node.input[0])
            after = index.only_consumer(node.output[0])
            if before is None or after is None or index.constant(node.input[1]) is None:
                continue
            if before.op_type == after.op_type == "Reshape":
                nodes = (before, node, after)
                masks.append(
                    FoundMask(nodes, before.input[0], after.output[0], node.input[1], "nearest")
                )
    return masks


def remove_masks(model: onnx.ModelProto, masks: Sequence[FoundMask] | None = None) -> int:
    """Take masks out of `model`: those given, by default all; returns how many there were."""
    graph = model.graph
    chosen = find_masks(graph) if masks is None else masks
    for mask in chosen:
        constants = {name for node in mask.nodes for name in node.input}
        for node in mask.nodes:
            graph.node.remove(node)
        _join(graph, mask.before, mask.after)
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


def _is_mask(tensor: str, index: GraphIndex) -> bool:
    constant = index.constant(tensor)
    if constant is None or len(constant.dims) != 4 or tuple(constant.dims[:2]) != (1, 1):
        return False
    value = onnx.numpy_helper.to_array(constant)
    return value.size > 1 and bool(np.isin(value, (0, 1)).all())


def _axis(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "axis"), 0)


def _join(graph: onnx.GraphProto, before: str, after: str) -> None:
    """Make one tensor of two after the nodes between them are gone."""
    producer = next((node for node in graph.node if before in node.output), None)
    if producer is None or before in {value.name for value in graph.output}:
        # A name of the graph's interface must stay.
        position = 0 if producer is None else list(graph.node).index(producer) + 1
        graph.node.insert(position, onnx.helper.make_node("Identity", [before], [after]))
        return
    producer.output[list(producer.output).index(before)] = after
    for node in graph.node:
        for i, name in enumerate(node.input):
            if name == before:
                node.input[i] = after
    for value in list(graph.value_info):
        if value.name == before:
            graph.value_info.remove(value)


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
