"""Reading a file, and bringing what it holds into one form."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activsparse.errors import ActivsparseError, memory_suffices
from activsparse.files import file_path, require_file
from activsparse.onnx_file.bodies import bodies
from activsparse.onnx_file.check import (
    STANDARD,
    check_attributes,
    check_names,
    check_values,
    title,
)
from activsparse.onnx_file.external import load_external_data
from activsparse.onnx_file.inline import inline_functions
from activsparse.onnx_file.order import sort_nodes
from activsparse.onnx_file.tensor import array_of, dense_of
from activsparse.onnx_file.unfuse import unfuse

if TYPE_CHECKING:
    import onnx

__all__ = ["check_constants", "name_of", "normal_form", "opset_of", "read_model"]

# What protobuf reads and writes in one piece.
_MOST_BYTES = 2**31 - 1


def name_of(source: str | os.PathLike[str] | bytes | onnx.ModelProto) -> str:
    """What messages call a model: its file, or `model` where there is none.

    Raises:
        ActivsparseError: it is neither a model nor a path.
    """
    in_memory = isinstance(source, bytes) or hasattr(source, "SerializeToString")
    return "model" if in_memory else str(file_path(source))


def read_model(
    path: str | os.PathLike[str] | bytes | onnx.ModelProto,
    weights: bool = True,
    foreign: bool = False,
) -> onnx.ModelProto:
    """Read an ONNX file in the form this package's head describes.

    Args:
        path: the file, its content, or a model as the onnx package has it, which stays as it is.
        weights: whether to read external data too.
        foreign: let operators of other domains by, which another engine may run.

    Raises:
        ActivsparseError: no such file; damaged, not ONNX, or not a valid model.
    """
    if isinstance(path, bytes) or hasattr(path, "SerializeToString"):
        file = Path(name_of(path))  # external data is looked for in the working directory
    else:
        file = require_file(path)
    with memory_suffices(str(file)):
        model = _in_memory(path, file) or _parse(file)
        check_names(model, str(file))
        if weights:
            load_external_data(model, file)
        return _in_order(model, str(file), foreign)


def normal_form(model: onnx.ModelProto, name: str, foreign: bool = False) -> onnx.ModelProto:
    """Return a model in the form this package's head describes, its external data apart.

    Args:
        model: may be changed.
        name: of its file, for messages.
        foreign: let operators of other domains by.

    Raises:
        ActivsparseError: it is not a valid model.
    """
    check_names(model, name)
    model = _in_order(model, name, foreign)
    check_constants(model.graph, name)
    return model


def check_constants(graph: onnx.GraphProto, name: str) -> None:
    """Check that every constant is of a known type and has the values its shape asks for.

    Raises:
        ActivsparseError: one is damaged.
    """
    with memory_suffices(name):
        for tensor in graph.initializer:
            array_of(tensor, name)
        for node in graph.node:
            for body in bodies(node):
                check_constants(body, name)
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    array_of(attribute.t, f"{name}: {title(node)}")


def _in_order(model: onnx.ModelProto, name: str, foreign: bool) -> onnx.ModelProto:
    """`normal_form` of a model whose strings are text."""
    if not model.graph.node:
        raise ActivsparseError(f"{name}: holds no ONNX graph; export or copy it again")
    if not model.graph.output:
        raise ActivsparseError(f"{name}: has no outputs; export it again")
    if not model.opset_import:
        raise ActivsparseError(f"{name}: does not say its operator set; export it again")
    model = inline_functions(model, name)
    _date(model)
    _make_dense(model.graph, name)
    model.graph.name = model.graph.name or "graph"
    _open_negative_sizes(model.graph)
    unfuse(model.graph, opset_of(model, name))
    check_values(model.graph, name)
    sort_nodes(model.graph, name)
    check_attributes(model.graph, opset_of(model, name), model.ir_version, name, foreign)
    return model


def opset_of(model: onnx.ModelProto, name: str) -> int:
    """Return the version of the standard operators a model is written in.

    Raises:
        ActivsparseError: it names none, or one the onnx package does not know, be it that of the
            operators or that of the file's format.
    """
    import onnx

    versions = sorted({e.version for e in model.opset_import if e.domain in STANDARD})
    if not versions:
        domains = ", ".join(f"'{entry.domain}'" for entry in model.opset_import)
        raise ActivsparseError(
            f"{name}: only operator sets of foreign domains ({domains}); "
            "export with standard ONNX operators"
        )
    newest = onnx.defs.onnx_opset_version()
    if not 1 <= model.ir_version <= onnx.IR_VERSION:
        raise ActivsparseError(
            f"{name}: version {model.ir_version} of ONNX files is not known, only 1 to "
            f"{onnx.IR_VERSION}; export for an older one, or update the onnx package"
        )
    if len(versions) > 1 or not 1 <= versions[0] <= newest:
        raise ActivsparseError(
            f"{name}: operator set {' and '.join(map(str, versions))} is not supported; export "
            f"with one opset up to {newest} (18 is a good choice)"
        )
    return int(versions[0])


def _in_memory(source: Any, file: Path) -> onnx.ModelProto | None:
    """A copy of a model that is no file."""
    import onnx
    from google.protobuf.message import DecodeError

    if isinstance(source, bytes):
        model = onnx.ModelProto()
        try:
            model.ParseFromString(source)
            return model
        except (DecodeError, ValueError) as error:
            raise ActivsparseError(
                f"{file}: these bytes are no ONNX model; give the content of a file, or its name "
                "as a str"
            ) from error
    if isinstance(source, onnx.ModelProto):
        model = onnx.ModelProto()
        model.CopyFrom(source)
        return model
    if hasattr(source, "SerializeToString"):
        raise ActivsparseError(f"{file}: is a {type(source).__name__}, no ModelProto")
    return None


def _parse(file: Path) -> onnx.ModelProto:
    import onnx
    from google.protobuf.message import DecodeError

    size = file.stat().st_size
    if size > _MOST_BYTES:
        raise ActivsparseError(
            f"{file}: {size / 2**30:.1f} GiB are more than one ONNX file can hold, 2 GiB; "
            "export with external data, or it is no ONNX file"
        )
    model = onnx.ModelProto()
    try:
        model.ParseFromString(file.read_bytes())
    except OSError as error:
        raise ActivsparseError(f"{file}: cannot be read ({error.strerror})") from error
    except (DecodeError, ValueError) as error:
        raise ActivsparseError(f"{file}: not an ONNX file, {_what_else(file)}") from error
    return model


# How files begin that are taken for ONNX ones, and what to do instead.
_OTHERS = (
    (0, b"version https://git-lfs", "but a pointer of Git LFS; fetch the file with: git lfs pull"),
    (4, b"ORTM", "but ONNX Runtime's own format; use the ONNX file it was made from"),
    (4, b"TFL3", "but a TFLite file; see activsparse.litert"),
    (0, b"PK\x03\x04", "but an archive, as torch.save writes; export the model with torch.onnx"),
    (0, b"\x1f\x8b", "but a compressed one; unpack it"),
    (0, b"<!", "but a web page; download the file again"),
    (0, b"<html", "but a web page; download the file again"),
    (0, b"<?xml", "but XML, as OpenVINO writes; use the ONNX file it was made from"),
)

# ONNX in other forms, by how they spell the first field.
_TEXTS = (
    (b'"irVersion"', "json"),
    (b"<\n   ir_version:", "onnxtxt"),
    (b"ir_version:", "textproto"),
)


def _what_else(file: Path) -> str:
    """What a file that is no ONNX file may be, and the remedy."""
    with file.open("rb") as stream:
        begin = stream.read(512)
    for place, mark, text in _OTHERS:
        if begin.startswith(mark, place):
            return text
    for mark, form in _TEXTS:
        if mark in begin:
            return f"but one as text; read it with onnx.load(..., format='{form}') and save it"
    return "or a damaged one; export or copy it again"


def _date(model: onnx.ModelProto) -> None:
    """Constants that are no inputs came with version 4 of the format: a file that has some is one.

    Exporters of that time wrote them so, and every engine takes them.
    """
    inputs = {value.name for value in model.graph.input}
    if model.ir_version < 4 and any(t.name not in inputs for t in model.graph.initializer):
        model.ir_version = 4


def _make_dense(graph: onnx.GraphProto, name: str) -> None:
    for sparse in graph.sparse_initializer:
        graph.initializer.append(dense_of(sparse, name))
    del graph.sparse_initializer[:]
    for node in graph.node:
        for body in bodies(node):
            _make_dense(body, name)
        for attribute in node.attribute if node.op_type == "Constant" else ():
            if attribute.name == "sparse_value" and attribute.HasField("sparse_tensor"):
                attribute.t.CopyFrom(dense_of(attribute.sparse_tensor, f"{name}: {title(node)}"))
                attribute.ClearField("sparse_tensor")
                attribute.name, attribute.type = "value", attribute.TENSOR


def _open_negative_sizes(graph: onnx.GraphProto) -> None:
    """Some exporters write -1 for a size they leave open; ONNX leaves it out."""
    for value in (*graph.input, *graph.value_info, *graph.output):
        for dim in value.type.tensor_type.shape.dim:
            if dim.HasField("dim_value") and dim.dim_value < 0:
                dim.ClearField("dim_value")
