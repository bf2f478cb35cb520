"""Static shapes and constants, in one sweep from the inputs to the outputs.

Doing both at once lets a shape computed by Shape-Gather-Concat-Reshape chains become a constant
before the node that needs it is reached. Both come from the onnx package: its shape functions and
its reference evaluator.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from activsparse.engine.graph import Array, Graph, Node, Nodes
from activsparse.engine.limits import check_inputs, check_node
from activsparse.engine.passes.branches import branch_taken
from activsparse.engine.passes.evaluate import evaluate
from activsparse.engine.passes.proto import has_body, node_proto, renamed
from activsparse.engine.passes.single import narrow
from activsparse.errors import ActivsparseError

if TYPE_CHECKING:
    import onnx

__all__ = ["constants_of", "infer"]

# Constants above this many elements never hold a shape; they are not handed to the shape functions.
_LARGEST_SHAPE_DATA = 1024

# A node of constants may make more of them than the file holds, up to this many elements.
_MOST_FOLDED = 1 << 26

# Operators the onnx package has no shape function for, whose result is of the shape of the input.
_SHAPE_KEEPING = ("GroupNormalization",)

# Weights stay as bytes, for operators on bytes (passes/quantised).
_QUANTISED = ("DequantizeLinear",)

# Their results differ from run to run, so they are no constants.
_RANDOM = ("Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike")


def infer(graph: Graph, lenient: bool = False) -> Graph:
    """Give every value a static shape and evaluate every node whose inputs are constant.

    Identity, Dropout (at inference) and casts of float32 to float32 disappear; of an If whose
    condition is constant the branch it takes is left. What is computed at run time is computed in
    float32 where the file says float64.

    Args:
        graph: ONNX nodes.
        lenient: leave a node that the onnx package cannot evaluate, or knows no shapes for, to
            whoever runs it.

    Raises:
        ActivsparseError: an unknown operator type, a shape that cannot be inferred, or one that is
            too large.
    """
    graph = graph.copy()
    check_inputs(graph)
    waiting, graph.nodes = list(reversed(graph.nodes)), Nodes()
    aliases: dict[str, str] = {}
    read = {name for node in waiting for name in node.inputs} | set(graph.outputs)
    while waiting:
        node = renamed(waiting.pop(), aliases)
        taken = branch_taken(graph, node)
        if taken is not None:
            read.update(name for inner in taken for name in inner.inputs)
            waiting.extend(reversed(taken))
            continue
        try:
            constants = constants_of(graph, node)
        except ActivsparseError:
            if not lenient:
                raise
            constants = None
        if constants is None:
            node = narrow(graph, _as_cast(graph, node))
        if constants is not None:
            graph.constants.update(constants)
            graph.shapes.update({name: tuple(value.shape) for name, value in constants.items()})
        elif _is_identity(graph, node):
            aliases[node.outputs[0]] = node.inputs[0]
            if len(node.outputs) > 1 and node.outputs[1] in read:
                _keep_all(graph, node)
        else:
            try:
                _infer_outputs(graph, node)
            except ActivsparseError:
                if not lenient:
                    raise
                _ask_onnxruntime(graph, node)
            check_node(graph, node)
            graph.nodes.append(node)
    graph.outputs = [aliases.get(name, name) for name in graph.outputs]
    return graph


def _as_cast(graph: Graph, node: Node) -> Node:
    """A cast to the type another value has as one to that type."""
    if node.op != "CastLike" or node.inputs[1] not in graph.shapes:
        return node
    import onnx

    name = node.inputs[1]
    constant = graph.constants.get(name)
    float32 = np.dtype(np.float32)
    dtype = graph.dtypes.get(name, float32) if constant is None else constant.dtype
    attributes = {**node.attributes, "to": onnx.helper.np_dtype_to_tensor_dtype(dtype)}
    return replace(node, op="Cast", inputs=node.inputs[:1], attributes=attributes)


def _is_identity(graph: Graph, node: Node) -> bool:
    if node.op == "Cast":
        to_float = int(node.attributes["to"]) == 1  # TensorProto.FLOAT
        known = node.inputs[0] in graph.shapes  # else its type is open, too
        return to_float and known and node.inputs[0] not in graph.dtypes
    if node.op == "Dropout":
        training = graph.constants.get(node.inputs[2]) if len(node.inputs) > 2 else None
        return training is None or not bool(training)
    return node.op == "Identity"


def _keep_all(graph: Graph, dropout: Node) -> None:
    """The mask of a Dropout at inference, which drops nothing; of type bool from opset 10 on."""
    dtype = np.bool_ if graph.opset >= 10 else np.float32
    mask = np.ones(graph.shape(dropout.inputs[0]), dtype)
    graph.constants[dropout.outputs[1]] = mask
    graph.shapes[dropout.outputs[1]] = mask.shape


def constants_of(graph: Graph, node: Node) -> dict[str, Array] | None:
    """Values of the node's outputs, or None where they depend on the graph's inputs.

    Raises:
        ActivsparseError: the onnx package cannot evaluate it, or its result would be too large.
    """
    if node.op == "Shape":
        return {node.outputs[0]: _shape_value(graph, node)}
    if node.op == "Constant":
        return {node.outputs[0]: _constant_value(graph, node)}
    present = [name for name in node.inputs if name]
    if not present or any(name not in graph.constants for name in present):
        return None
    if node.op in _RANDOM or node.op in _QUANTISED:
        return None
    _check_growth(graph, node, present)
    return evaluate(graph, node)


def _check_growth(graph: Graph, node: Node, present: list[str]) -> None:
    """Refuse what a few bytes of the file would make into gigabytes, such as Expand or Tile."""
    known = sum(graph.constants[name].size for name in present)
    try:
        kinds = _output_types(graph, node)
    except ActivsparseError:
        return  # the evaluator has the last word
    for kind in kinds.values():
        dims = [dim.dim_value for dim in kind.tensor_type.shape.dim]
        if math.prod(dims) > max(_MOST_FOLDED, 4 * known):
            raise ActivsparseError(
                f"{graph.name}: {node.title} makes a constant of shape {'x'.join(map(str, dims))} "
                "from smaller ones; let the operator that reads it repeat it"
            )


def _shape_value(graph: Graph, node: Node) -> Array:
    shape = graph.shape(node.inputs[0])
    begin, end = node.attributes.get("start", 0), node.attributes.get("end", len(shape))
    return np.asarray(shape[begin:end], dtype=np.int64)


def _constant_value(graph: Graph, node: Node) -> Array:
    for key, dtype in (
        ("value", None),
        ("value_float", np.float32),
        ("value_floats", np.float32),
        ("value_int", np.int64),
        ("value_ints", np.int64),
    ):
        if key in node.attributes:
            return np.asarray(node.attributes[key], dtype=dtype)
    raise ActivsparseError(
        f"{graph.name}: {node.title} holds no numbers; export without constants of text"
    )


def _shapes(graph: Graph, node: Node) -> str:
    """The inputs of a node with their shapes, for error messages."""
    return ", ".join(
        f"'{name}' {'x'.join(map(str, graph.shape(name))) or 'scalar'}"
        for name in filter(None, node.inputs)
    )


def _infer_outputs(graph: Graph, node: Node) -> None:
    """Note shapes and types of a node's outputs; none where those of its inputs are open."""
    if node.op in _SHAPE_KEEPING and node.inputs[0] in graph.shapes:
        graph.shapes[node.outputs[0]] = graph.shape(node.inputs[0])
        return
    if has_body(node):
        _infer_whole(graph, node)
        return
    for name, kind in _output_types(graph, node).items():
        _drop_windows_in_the_padding(graph, node, kind.tensor_type.shape)
        _scale_in_float32(graph, node, kind.tensor_type.shape)
        _note_type(graph, node, name, kind)


def _scale_in_float32(graph: Graph, node: Node, shape: onnx.TensorShapeProto) -> None:
    """Sizes of a resized value as ONNX Runtime rounds them: 20 times float32's 2.05 are 41.

    The onnx package multiplies in double precision, which makes 40.99999905 and so 40 of it.
    """
    index = 1 if node.op == "Upsample" or graph.opset < 11 else 2
    name = node.inputs[index] if len(node.inputs) > index else ""
    scales = graph.constants.get(name, node.attributes.get("scales"))
    sizes = graph.shapes.get(node.inputs[0]) if node.op in ("Resize", "Upsample") else None
    if sizes is None or scales is None or np.asarray(scales).dtype.kind != "f":
        return
    axes = [int(axis) for axis in node.attributes.get("axes", range(len(sizes)))]
    if any(not -len(sizes) <= axis < len(sizes) for axis in axes):
        return
    for axis, scale in zip(axes, np.asarray(scales, np.float32).reshape(-1), strict=False):
        with np.errstate(over="ignore", invalid="ignore"):
            size = float(np.float32(sizes[axis]) * scale)
        # What is no size is for the package to refuse.
        if len(shape.dim) == len(sizes) and 1 <= size < 2**62:
            shape.dim[axis].dim_value = int(size)


def _drop_windows_in_the_padding(graph: Graph, node: Node, shape: onnx.TensorShapeProto) -> None:
    """Leave out pooling windows that `ceil_mode` lets start behind the input and its padding.

    Operator set 22 says so; torch and ONNX Runtime have done it for all older ones, for which the
    onnx package counts these windows.
    """
    if node.op not in ("AveragePool", "LpPool", "MaxPool") or not node.attributes.get("ceil_mode"):
        return
    sizes = graph.shape(node.inputs[0])[2:]
    strides = node.attributes.get("strides", [1] * len(sizes))
    pads = node.attributes.get("pads", [0] * len(sizes))
    for dim, size, stride, pad in zip(shape.dim[2:], sizes, strides, pads, strict=False):
        if dim.dim_value > 1 and (dim.dim_value - 1) * stride >= size + pad:
            dim.dim_value -= 1


def _output_types(graph: Graph, node: Node) -> dict[str, onnx.TypeProto]:
    """Types of a node's outputs; none where the shapes of its inputs are open."""
    import onnx
    from onnx import defs, shape_inference

    try:
        schema = defs.get_schema(node.op, graph.opset)
    except defs.SchemaError as error:
        raise ActivsparseError(
            f"{graph.name}: {node.title} is no operator of ONNX opset {graph.opset}; "
            "export with standard ONNX operators only"
        ) from error
    types, data = {}, {}
    for name in filter(None, node.inputs):
        if name not in graph.shapes:
            return {}  # whoever asks for it is told
        constant = graph.constants.get(name)
        float32 = np.dtype(np.float32)
        dtype = graph.dtypes.get(name, float32) if constant is None else constant.dtype
        types[name] = onnx.helper.make_tensor_type_proto(
            onnx.helper.np_dtype_to_tensor_dtype(dtype), graph.shape(name)
        )
        if constant is not None and constant.size <= _LARGEST_SHAPE_DATA:
            data[name] = onnx.numpy_helper.from_array(constant)
    try:
        inferred: dict[str, Any] = shape_inference.infer_node_outputs(
            schema,
            node_proto(node),
            types,
            data,
            opset_imports=[onnx.helper.make_opsetid("", graph.opset)],
        )
    except Exception as error:
        raise ActivsparseError(
            f"{graph.name}: {node.title} does not fit its inputs, {_shapes(graph, node)} "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); the file is "
            "damaged, or made for another input size, as a mask is"
        ) from error
    return {name: kind for name, kind in inferred.items() if name}


def _ask_onnxruntime(graph: Graph, node: Node) -> None:
    """Note what an operator of another domain gives, where ONNX Runtime's tool knows it."""
    from activsparse.onnx_file.foreign_types import foreign_types

    alone = _alone(graph, node)
    for value in foreign_types(alone) if alone is not None else ():
        _note_type(graph, node, value.name, value.type)


def _infer_whole(graph: Graph, node: Node) -> None:
    """Note what a node with sub-graphs gives, as far as the onnx package sees through them."""
    import onnx

    alone = _alone(graph, node)
    if alone is None:
        return
    try:
        inferred = onnx.shape_inference.infer_shapes(alone, data_prop=True)
    except Exception:  # whatever is wrong with it, the engine that runs it will say
        return
    for value in inferred.graph.output:
        _note_type(graph, node, value.name, value.type)


def _alone(graph: Graph, node: Node) -> onnx.ModelProto | None:
    """A model of one node; None where sizes of its inputs are open."""
    from onnx import helper, numpy_helper

    inputs, constants = [], []
    for name in dict.fromkeys(filter(None, node.inputs)):
        constant = graph.constants.get(name)
        if constant is not None:
            constants.append(numpy_helper.from_array(constant, name))
        elif name in graph.shapes:
            kind = helper.np_dtype_to_tensor_dtype(graph.dtypes.get(name, np.dtype(np.float32)))
            inputs.append(helper.make_tensor_value_info(name, kind, graph.shape(name)))
        else:
            return None
    results = [helper.make_empty_tensor_value_info(name) for name in node.outputs if name]
    body = helper.make_graph([node_proto(node)], "node", inputs, results, constants)
    versions = {"": graph.opset, **graph.domains}
    opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    return helper.make_model(body, opset_imports=opsets)


def _note_type(graph: Graph, node: Node, name: str, kind: onnx.TypeProto) -> None:
    import onnx

    if not kind.tensor_type.elem_type:  # a sequence, or of a type nobody knows
        return
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.tensor_type.elem_type)
    if dtype != np.float32:
        graph.dtypes[name] = dtype
    if not kind.tensor_type.HasField("shape"):
        return
    dims = [d.dim_value if d.HasField("dim_value") else None for d in kind.tensor_type.shape.dim]
    sizes = tuple(dim for dim in dims if dim is not None)
    if len(sizes) < len(dims):
        return
    if min(sizes, default=1) < 1:
        raise ActivsparseError(
            f"{graph.name}: {node.title} leaves nothing of its inputs, {_shapes(graph, node)}: its "
            f"output would be {'x'.join(map(str, sizes))}; give it a larger input, or a smaller "
            "kernel or cut"
        )
    graph.shapes[name] = sizes
