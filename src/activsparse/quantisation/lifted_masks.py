"""Masks taken out of a graph before it is quantised, and put back behind.

A quantiser takes a mask for one more tensor to round, and a mask between a convolution and its
activation keeps them apart. Without it the network is quantised as any other; the mask then comes
between DequantizeLinear and another pair of the same scale, so that the positions it leaves out
hold exactly the zero point, and all others what they held.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx
from onnx import helper

from activsparse.export.graph import GraphIndex
from activsparse.export.insert import FoundMask, find_masks, remove_masks

__all__ = ["LiftedMask", "put_masks_back", "take_masks_out"]


@dataclass(frozen=True)
class LiftedMask:
    """One mask outside its graph.

    Attributes:
        tensor: what it masks.
        nodes: that do it, from `before` to `after`.
        before: what the first of them reads.
        after: what the last of them writes.
        constants: initializers they read.
    """

    tensor: str
    nodes: tuple[onnx.NodeProto, ...]
    before: str
    after: str
    constants: tuple[onnx.TensorProto, ...]


def take_masks_out(model: onnx.ModelProto) -> tuple[list[LiftedMask], list[str]]:
    """Take the masks out of `model`; masked tensors keep their names.

    Returns:
        The masks, and the names of the nodes of those that cannot be taken out, since their
        convolution is read without them too.
    """
    graph = model.graph
    index = GraphIndex(graph)
    found = find_masks(graph)
    chosen = [mask for mask in found if _is_apart(mask, index)]
    left = [node.name for mask in found if mask not in chosen for node in mask.nodes]
    held = [_lifted(mask, index) for mask in chosen]
    remove_masks(model, chosen)
    index = GraphIndex(graph)
    return [_behind_activation(mask, index) for mask in held], left


def _is_apart(mask: FoundMask, index: GraphIndex) -> bool:
    reader = index.only_consumer(mask.before)
    return reader is not None and reader is mask.nodes[0]


def _lifted(mask: FoundMask, index: GraphIndex) -> LiftedMask:
    nodes = tuple(_copy(node) for node in mask.nodes)
    written = {name for node in nodes for name in node.output}
    constants = {}
    for node in nodes:
        for name in node.input:
            if name in written or name == mask.before:
                continue
            tensor = index.constant(name)
            if tensor is not None:
                constants[name] = onnx.TensorProto.FromString(tensor.SerializeToString())
                constants[name].name = name
    return LiftedMask(mask.after, nodes, mask.before, mask.after, tuple(constants.values()))


def _copy(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy


def _behind_activation(mask: LiftedMask, index: GraphIndex) -> LiftedMask:
    """Let a mask act behind an activation that saturation makes of the convolution's rounding."""
    tensor = mask.tensor
    while True:
        reader = index.only_consumer(tensor)
        if reader is None or not _keeps_zero(reader, index):
            return LiftedMask(tensor, mask.nodes, mask.before, mask.after, mask.constants)
        tensor = reader.output[0]


def _keeps_zero(node: onnx.NodeProto, index: GraphIndex) -> bool:
    if node.op_type == "Relu":
        return True
    if node.op_type != "Clip" or len(node.input) < 3 or not all(node.input):
        return False
    bounds = [index.constant(name) for name in node.input[1:3]]
    if any(bound is None for bound in bounds):
        return False
    low, high = (float(onnx.numpy_helper.to_array(b)) for b in bounds if b is not None)
    return low <= 0 <= high


def put_masks_back(model: onnx.ModelProto, masks: list[LiftedMask]) -> None:
    """Put masks into a quantised graph, in place."""
    constants = {tensor.name for tensor in model.graph.initializer}
    for mask in masks:
        for tensor in mask.constants:
            if tensor.name not in constants:
                model.graph.initializer.append(tensor)
                constants.add(tensor.name)
        _put_back(model.graph, mask)


def _put_back(graph: onnx.GraphProto, mask: LiftedMask) -> None:
    nodes = list(graph.node)
    places = {name: i for i, node in enumerate(nodes) for name in node.output}
    pair = _pair_of(nodes, places, mask.tensor)
    if pair is None:  # left in float
        place = places[mask.tensor]
        producer = nodes[place]
        before = f"{mask.tensor}.dense"
        producer.output[list(producer.output).index(mask.tensor)] = before
        new = _renamed(mask, before, mask.tensor)
    else:
        quantise, place = pair
        dequantise = nodes[place]
        real = dequantise.output[0]
        before, masked, again = (
            f"{mask.tensor}.{part}" for part in ("dense", "masked", "masked.quantised")
        )
        dequantise.output[0] = before
        scale, zero = quantise.input[1:3]
        new = [
            *_renamed(mask, before, masked),
            helper.make_node("QuantizeLinear", [masked, scale, zero], [again], f"{again}.q"),
            helper.make_node("DequantizeLinear", [again, scale, zero], [real], f"{again}.dq"),
        ]
    for node in reversed(new):
        graph.node.insert(place + 1, node)


def _pair_of(
    nodes: list[onnx.NodeProto], places: dict[str, int], tensor: str
) -> tuple[onnx.NodeProto, int] | None:
    """The QuantizeLinear of a tensor, and where the DequantizeLinear behind it is."""
    producer = nodes[places[tensor]]
    if producer.op_type == "DequantizeLinear":  # a result of the graph
        return nodes[places[producer.input[0]]], places[tensor]
    for node in nodes:
        if node.op_type == "QuantizeLinear" and node.input[0] == tensor:
            for place, reader in enumerate(nodes):
                if reader.op_type == "DequantizeLinear" and reader.input[0] == node.output[0]:
                    return node, place
    return None


def _renamed(mask: LiftedMask, before: str, after: str) -> list[onnx.NodeProto]:
    """The mask's nodes between other tensors."""
    names = {mask.before: before, mask.after: after}
    nodes = []
    for node in mask.nodes:
        copy = _copy(node)
        for old in copy.output:
            names.setdefault(old, f"{after}.{copy.op_type.lower()}")
        copy.input[:] = [names.get(name, name) for name in copy.input]
        copy.output[:] = [names[name] for name in copy.output]
        nodes.append(copy)
    return nodes
