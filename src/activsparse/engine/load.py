"""From an ONNX file to a `Graph` with ONNX nodes: reading, checking and nothing else."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activsparse.engine.graph import Array, Graph, Node, Shape
from activsparse.engine.options import checked_shapes
from activsparse.errors import ActivsparseError, Option
from activsparse.files import require_file

if TYPE_CHECKING:
    import onnx

__all__ = ["load"]

# Opset 9 is the first whose BatchNormalization and Upsample mean what the passes assume.
_OLDEST_OPSET = 9

# Where `activsparse mask` and `export` note the sparsity that was asked for: a JSON object.
_REQUESTED_KEY = "activsparse.requested"

_log = logging.getLogger(__name__)


def load(
    path: str | os.PathLike[str], input_shapes: Mapping[str, tuple[int, ...]] | None = None
) -> Graph:
    """Read an ONNX model.

    Args:
        path: the file; external data is looked for beside it.
        input_shapes: full shapes of inputs, by name, for those the file leaves open. An open batch
            dimension (the first) that is not given becomes 1.

    Raises:
        ActivsparseError: the file is missing, damaged or not ONNX; it uses an operator set, data
            type or open dimension the engine does not know.
    """
    file = require_file(path)
    model = _read(file)
    opset = _opset(model, file)
    model = _without_functions(model, file)
    constants = {t.name: _array(t, file) for t in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    given = checked_shapes(input_shapes)
    unknown = sorted(set(given) - {value.name for value in inputs})
    if unknown:
        names = ", ".join(value.name for value in inputs)
        raise ActivsparseError(f"{file}: there is no input '{unknown[0]}'; the inputs are: {names}")
    shapes = {value.name: _input_shape(value, given.get(value.name), file) for value in inputs}
    shapes.update({name: tuple(array.shape) for name, array in constants.items()})
    graph = Graph(
        name=str(file),
        nodes=[_node(proto, i, file) for i, proto in enumerate(model.graph.node)],
        inputs=[value.name for value in inputs],
        outputs=[value.name for value in model.graph.output],
        shapes=shapes,
        constants=constants,
        opset=opset,
        requested=_requested(model, file),
    )
    _check_links(graph)
    return graph


def _read(file: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(file, load_external_data=False)
    except (DecodeError, ValueError, UnicodeDecodeError) as error:
        raise ActivsparseError(
            f"{file}: not an ONNX file, or a damaged one; export or copy it again"
        ) from error
    if not model.graph.node or not model.opset_import:
        raise ActivsparseError(f"{file}: holds no ONNX graph; export or copy it again")
    try:
        onnx.load_external_data_for_model(model, str(file.parent))
    except (OSError, onnx.checker.ValidationError, ValueError) as error:
        names = sorted(
            {
                entry.value
                for tensor in model.graph.initializer
                for entry in tensor.external_data
                if entry.key == "location"
            }
        )
        raise ActivsparseError(
            f"{file}: its external data ({', '.join(names)}) is missing or damaged; "
            "keep that file beside the model, or export it as a single file"
        ) from error
    return model


def _opset(model: onnx.ModelProto, file: Path) -> int:
    import onnx

    for entry in model.opset_import:
        if entry.domain in ("", "ai.onnx"):
            newest = onnx.defs.onnx_opset_version()
            if not _OLDEST_OPSET <= entry.version <= newest:
                raise ActivsparseError(
                    f"{file}: operator set {entry.version} is not supported; "
                    f"export with an opset from {_OLDEST_OPSET} to {newest} (18 is a good choice)"
                )
            return int(entry.version)
    domains = ", ".join(entry.domain for entry in model.opset_import)
    raise ActivsparseError(
        f"{file}: only operator sets of foreign domains ({domains}); "
        "export with standard ONNX operators"
    )


def _without_functions(model: onnx.ModelProto, file: Path) -> onnx.ModelProto:
    if not model.functions:
        return model
    from onnx.inliner import inline_local_functions

    try:
        return inline_local_functions(model)
    except Exception as error:
        raise ActivsparseError(
            f"{file}: its model-local functions cannot be inlined ({_line(error)}); "
            "export without functions"
        ) from error


def _requested(model: onnx.ModelProto, file: Path) -> dict[str, float]:
    """The noted sparsities; only reports show them, so a damaged note is no error."""
    notes = [entry.value for entry in model.metadata_props if entry.key == _REQUESTED_KEY]
    try:
        return {str(k): float(v) for note in notes for k, v in json.loads(note).items()}
    except (ValueError, TypeError, AttributeError):
        _log.warning("%s: metadata '%s' is damaged and ignored", file, _REQUESTED_KEY)
        return {}


def _array(tensor: onnx.TensorProto, file: Path) -> Array:
    import onnx

    try:
        array: Array = onnx.numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OSError) as error:
        raise ActivsparseError(
            f"{file}: constant '{tensor.name}' is damaged ({_line(error)}); "
            "export or copy the file again"
        ) from error
    return array


def _input_shape(value: onnx.ValueInfoProto, given: Shape | None, file: Path) -> Shape:
    import onnx

    kind = value.type.tensor_type
    where = f"{file}: input '{value.name}'"
    if not value.type.HasField("tensor_type") or kind.elem_type != onnx.TensorProto.FLOAT:
        raise ActivsparseError(f"{where} is not a float32 tensor; export the model in float32")
    dims = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
    if given is not None:
        fits = len(given) == len(dims) and all(
            size >= 1 and dim in (None, size) for size, dim in zip(given, dims, strict=True)
        )
        if not fits:
            wanted = ", ".join("?" if dim is None else str(dim) for dim in dims)
            raise ActivsparseError(
                f"{where}: shape {tuple(given)} does not fit the model's ({wanted}); "
                "give sizes only where the model leaves them open"
            )
        return tuple(int(size) for size in given)
    if dims and dims[0] is None:
        dims[0] = 1
    shape = tuple(dim for dim in dims if dim is not None and dim >= 1)
    if len(shape) != len(dims) or not dims:
        names = ", ".join(d.dim_param or str(d.dim_value or "?") for d in kind.shape.dim)
        raise ActivsparseError(
            f"{where} has open dimensions ({names}); give its shape, for example ",
            Option("input_shapes", {value.name: _example(dims)}),
        )
    return shape


def _example(dims: Sequence[int | None]) -> Shape:
    """Sizes a message may give where a model leaves them open: those of a common image."""
    usual = (1, 3, 224, 224) if len(dims) == 4 else (1, *[224] * (len(dims) - 1))
    return tuple(dim or size for dim, size in zip(dims, usual, strict=True))


def _node(proto: onnx.NodeProto, index: int, file: Path) -> Node:
    import onnx

    name = proto.name or (proto.output[0] if proto.output else f"#{index}")
    if proto.domain not in ("", "ai.onnx"):
        raise ActivsparseError(
            f"{file}: node '{name}' uses {proto.op_type} of domain '{proto.domain}'; "
            "export with standard ONNX operators only"
        )
    attributes: dict[str, Any] = {}
    for attribute in proto.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if isinstance(value, bytes):
            value = value.decode("utf-8", "replace")
        elif isinstance(value, onnx.TensorProto):
            value = _array(value, file)
        elif isinstance(value, onnx.GraphProto):
            raise ActivsparseError(
                f"{file}: node '{name}' ({proto.op_type}) holds a sub-graph; "
                "export without control flow"
            )
        attributes[attribute.name] = value
    return Node(proto.op_type, name, tuple(proto.input), tuple(proto.output), attributes)


def _check_links(graph: Graph) -> None:
    known = {"", *graph.inputs, *graph.constants}
    for node in graph.nodes:
        for value in node.inputs:
            if value not in known:
                raise ActivsparseError(
                    f"{graph.name}: {node.title} reads '{value}', which nothing before it writes; "
                    "the file is damaged, export it again"
                )
        known.update(node.outputs)
    for value in graph.outputs:
        if value not in known:
            raise ActivsparseError(
                f"{graph.name}: output '{value}' is never written; "
                "the file is damaged, export it again"
            )


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
