"""From an ONNX file to a `Graph` with ONNX nodes: reading, checking and nothing else."""

from __future__ import annotations

import json
import logging
import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from activsparse.engine.graph import Graph, Nodes, Shape
from activsparse.engine.options import checked_shapes
from activsparse.engine.passes.proto import node_of
from activsparse.engine.passes.single import widen
from activsparse.errors import ActivsparseError, Option
from activsparse.input_sizes import example_shape
from activsparse.onnx_file import STANDARD, array_of, check_accepted, name_of, read_model

if TYPE_CHECKING:
    import onnx

__all__ = ["load"]

# Where `activsparse mask` and `export` note the sparsity that was asked for: a JSON object.
_REQUESTED_KEY = "activsparse.requested"

_log = logging.getLogger(__name__)


def load(
    path: str | os.PathLike[str] | bytes | onnx.ModelProto,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    foreign: bool = False,
) -> Graph:
    """Read an ONNX model.

    Args:
        path: the file; external data is looked for beside it. Or a model: as the onnx package has
            it, or the content of a file.
        input_shapes: full shapes of inputs, by name, for those the file leaves open. An open batch
            dimension (the first) that is not given becomes 1.
        foreign: let operators of other domains by, for a fallback.

    Raises:
        ActivsparseError: the file is missing, damaged or not ONNX; it uses an operator set, data
            type or open dimension the engine does not know.
    """
    import onnx

    model = read_model(path, foreign=foreign)
    file = name_of(path)
    # What quantised operators there are is told by whoever is to run them.
    opset = check_accepted(model, file, allow_quantised=True)
    constants = {t.name: array_of(t, file) for t in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    given = checked_shapes(input_shapes)
    unknown = sorted(set(given) - {value.name for value in inputs})
    if unknown:
        names = ", ".join(value.name for value in inputs)
        raise ActivsparseError(f"{file}: there is no input '{unknown[0]}'; the inputs are: {names}")
    shapes = {value.name: _input_shape(value, given.get(value.name), file) for value in inputs}
    shapes.update({name: tuple(array.shape) for name, array in constants.items()})
    types = {value.name: _dtype(value) for value in inputs}
    others = (onnx.TensorProto.FLOAT16, onnx.TensorProto.DOUBLE)
    ends = (*inputs, *model.graph.output)
    border = {v.name: _dtype(v) for v in ends if v.type.tensor_type.elem_type in others}
    graph = Graph(
        name=file,
        nodes=Nodes(node_of(proto, file) for proto in model.graph.node),
        inputs=[value.name for value in inputs],
        outputs=[value.name for value in model.graph.output],
        shapes=shapes,
        constants=constants,
        opset=opset,
        requested=_requested(model, file),
        dtypes={k: dtype for k, dtype in types.items() if dtype not in (np.float32, np.float64)},
        border=border,
        domains={e.domain: e.version for e in model.opset_import if e.domain not in STANDARD},
    )
    return widen(graph)


def _dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    """The type of an input or an output."""
    import onnx

    return onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)


def _requested(model: onnx.ModelProto, file: str) -> dict[str, float]:
    """The noted sparsities; only reports show them, so a damaged note is no error."""
    notes = [entry.value for entry in model.metadata_props if entry.key == _REQUESTED_KEY]
    try:
        noted = {str(k): float(v) for note in notes for k, v in json.loads(note).items()}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        noted = {"": math.nan}
    if not all(0 <= sparsity <= 1 for sparsity in noted.values()):
        _log.warning("%s: metadata '%s' is damaged and ignored", file, _REQUESTED_KEY)
        return {}
    return noted


def _input_shape(value: onnx.ValueInfoProto, given: Shape | None, file: str) -> Shape:
    kind = value.type.tensor_type
    where = f"{file}: input '{value.name}'"
    dims = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
    if not kind.HasField("shape"):
        if given is not None:
            return given
        raise ActivsparseError(
            f"{where} has no shape in the file; give it, for example ",
            Option("input_shapes", {value.name: (1, 3, 224, 224)}),
        )
    if given is not None:
        fits = len(given) == len(dims) and all(
            dim in (None, size) for size, dim in zip(given, dims, strict=True)
        )
        if not fits:
            wanted = ", ".join("?" if dim is None else str(dim) for dim in dims)
            raise ActivsparseError(
                f"{where}: shape {tuple(given)} does not fit the model's ({wanted}); "
                "give sizes only where the model leaves them open"
            )
        return given
    if dims and dims[0] is None:
        dims[0] = 1
    shape = tuple(dim for dim in dims if dim is not None)
    if len(shape) != len(dims):
        names = ", ".join(d.dim_param or str(d.dim_value or "?") for d in kind.shape.dim)
        raise ActivsparseError(
            f"{where} has open dimensions ({names}); give its shape, for example ",
            Option("input_shapes", {value.name: example_shape(dims)}),
        )
    return shape
