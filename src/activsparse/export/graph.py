"""A look-up over an ONNX graph: who makes and who reads each tensor, constants and shapes."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from activsparse.errors import ActivsparseError
from activsparse.onnx_file import STANDARD
from activsparse.onnx_file.bodies import reads
from activsparse.onnx_file.foreign_types import foreign_types

__all__ = ["GraphIndex", "TensorType", "reads", "tensor_types"]

TensorType = tuple[int, tuple[int | None, ...]]
"""ONNX element type and sizes, None where a size is open."""

# Shapes depend on the values of small constants only: sizes, axes, scales.
_MOST_VALUES = 1024

# What exporters compute sizes with, by the set of operators from which on the onnx package's
# evaluator and the files mean the same by it.
_OF_SIZES = dict.fromkeys(
    (
        *("Abs", "Add", "And", "Cast", "Ceil", "Concat", "Constant", "ConstantOfShape", "Div"),
        *("Equal", "Expand", "Floor", "Gather", "Greater", "GreaterOrEqual", "Identity", "Less"),
        *("LessOrEqual", "Max", "Min", "Mod", "Mul", "Neg", "Not", "Or", "Pow", "Range"),
        *("Reciprocal", "ReduceMax", "ReduceMin", "ReduceProd", "Reshape", "Round", "Sqrt", "Sub"),
        *("Transpose", "Where"),
    ),
    7,
) | {"Slice": 10, "Squeeze": 13, "Unsqueeze": 13}


class GraphIndex:
    """Producers, consumers and constants of `graph`, as it was when the index was made."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.outputs = {value.name for value in graph.output}
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in set(reads(node)):
                self.consumers.setdefault(name, []).append(node)
        self._initializers: dict[str, onnx.TensorProto] = {
            tensor.name: tensor for tensor in graph.initializer
        }
        self._fixed = set(self._initializers)
        for node in graph.node:  # in the order of execution
            if all(name in self._fixed for name in reads(node)):
                self._fixed.update(name for name in node.output if name)

    def only_consumer(self, tensor: str) -> onnx.NodeProto | None:
        """The node that alone reads `tensor`; None when several do or it leaves the graph."""
        readers = self.consumers.get(tensor, [])
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def constant(self, name: str) -> onnx.TensorProto | None:
        """The constant behind `name`: initializer or Constant node, either through Identity."""
        node = self.producers.get(name)
        seen = set()
        while node is not None and node.op_type == "Identity" and name not in seen:
            seen.add(name)
            name = node.input[0]
            node = self.producers.get(name)
        if name in self._initializers:
            return self._initializers[name]
        if node is not None and node.op_type == "Constant":
            for attribute in node.attribute:
                if attribute.name == "value":
                    tensor: onnx.TensorProto = attribute.t
                    return tensor
        return None

    def is_fixed(self, tensor: str) -> bool:
        """Whether a tensor depends on constants only, whatever is computed of them."""
        return tensor in self._fixed

    def roots(self, tensor: str) -> list[str]:
        """The initializers that a tensor is computed of, in the order in which they are read."""
        found, waiting, seen = [], [tensor], set()
        while waiting:
            name = waiting.pop()
            if name in seen:
                continue
            seen.add(name)
            if name in self._initializers:
                found.append(name)
            elif name in self.producers:
                waiting.extend(reversed([*reads(self.producers[name])]))
        return found


def tensor_types(model: onnx.ModelProto, name: str = "model") -> dict[str, TensorType]:
    """Element types and sizes of all tensors of the model called `name`, by shape inference.

    Raises:
        ActivsparseError: a node does not fit its inputs.
    """
    outline = _outline(model)
    outline.graph.value_info.extend(foreign_types(outline))
    types = _inferred(outline, name)
    # What a file notes of values, results among them, may be of another input size: it counts where
    # nothing else tells.
    ends = {value.name: value for value in model.graph.output}
    told = {k for k, (_, sizes) in types.items() if None not in sizes}
    noted = [value for value in model.graph.value_info if value.name not in told]
    results = [value for value in outline.graph.output if value.name not in told]
    if noted or results:
        outline.graph.value_info.extend(noted)
        for value in results:
            value.CopyFrom(ends[value.name])
        types = _inferred(outline, name)
    return types


def _inferred(outline: onnx.ModelProto, name: str) -> dict[str, TensorType]:
    types: dict[str, TensorType] = {}
    while True:
        try:
            inferred = onnx.shape_inference.infer_shapes(outline, data_prop=True).graph
        except Exception as error:  # the inference raises several types, with no narrower base
            cause = str(error).strip() or type(error).__name__
            raise ActivsparseError(
                f"{name}: its shapes do not fit each other ({cause}); export the model again"
            ) from error
        for value in (*inferred.input, *inferred.value_info, *inferred.output):
            tensor = value.type.tensor_type
            if tensor.HasField("shape"):
                sizes = (d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
                types[value.name] = (tensor.elem_type, tuple(sizes))
        if not _note_shapes(outline, types):
            return types


def _note_shapes(outline: onnx.ModelProto, types: dict[str, TensorType]) -> bool:
    """Make constants of shapes that are known, and of the small numbers computed from them.

    The inference follows sums of sizes only, and before opset 13 none.

    Returns:
        Whether there were any.
    """
    graph = outline.graph
    constants = {
        tensor.name: onnx.numpy_helper.to_array(tensor)
        for tensor in graph.initializer
        if math.prod(tensor.dims) <= _MOST_VALUES and not tensor.external_data
    }
    known: list[tuple[onnx.NodeProto, dict[str, np.ndarray]]] = []
    for node in graph.node:
        values = _value_of(node, types, constants, outline.opset_import)
        if values:
            constants |= values
            if node.op_type != "Constant":
                known.append((node, values))
    for node, values in known:
        for name, value in values.items():
            graph.initializer.append(onnx.numpy_helper.from_array(value, name))
        graph.node.remove(node)
    return bool(known)


def _value_of(
    node: onnx.NodeProto,
    types: dict[str, TensorType],
    constants: dict[str, np.ndarray],
    opsets: Iterable[onnx.OperatorSetIdProto],
) -> dict[str, np.ndarray]:
    """What a node gives by name, if that is small and depends on sizes and constants only."""
    if node.op_type == "Shape":
        sizes = types.get(node.input[0], (0, (None,)))[1]
        known = None not in sizes and not node.attribute
        return {node.output[0]: np.array(sizes, np.int64)} if known else {}
    versions = {opset.domain: opset.version for opset in opsets}
    inputs = [name for name in node.input if name]
    if (
        node.domain not in STANDARD
        or versions.get("", versions.get("ai.onnx", 0)) < _OF_SIZES.get(node.op_type, math.inf)
        or any(name not in constants for name in inputs)
    ):
        return {}
    try:
        evaluator = ReferenceEvaluator(node, opsets=versions)
        found = evaluator.run(None, {name: constants[name] for name in inputs})
    except Exception:  # each reference operator raises what it likes
        return {}
    values = [np.asarray(value) for value in found]
    small = all(value.size <= _MOST_VALUES for value in values)
    return dict(zip(node.output, values, strict=True)) if small else {}


def _outline(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy without the values of large constants, which the inference would copy and parse."""
    outline = onnx.ModelProto(
        ir_version=model.ir_version, opset_import=model.opset_import, functions=model.functions
    )
    graph = outline.graph
    graph.name = model.graph.name
    for field in ("node", "input", "sparse_initializer"):
        getattr(graph, field).extend(getattr(model.graph, field))
    # A constant or an input that is an output, too, would lose the shape it has.
    written = {name for node in graph.node for name in node.output}
    graph.output.extend(value for value in model.graph.output if value.name in written)
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    for tensor in model.graph.initializer:
        if math.prod(tensor.dims) <= _MOST_VALUES:
            graph.initializer.append(tensor)
        else:
            graph.initializer.add(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    for node in graph.node:
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if math.prod(attribute.t.dims) > _MOST_VALUES:
                bare = onnx.TensorProto(data_type=attribute.t.data_type, dims=attribute.t.dims)
                attribute.t.CopyFrom(bare)
    return outline
