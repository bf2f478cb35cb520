"""Weights that lie in files beside the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from activsparse.errors import ActivsparseError
from activsparse.onnx_file.bodies import bodies

if TYPE_CHECKING:
    import onnx

__all__ = ["load_external_data"]


def load_external_data(model: onnx.ModelProto, file: Path) -> None:
    """Read all external data of a model into it.

    Only regular files in the model's folder or below it are read: a model from elsewhere must not
    make us read, and perhaps publish, whatever this user may.

    Args:
        model: changed in place.
        file: the model's; locations are relative to its folder.

    Raises:
        ActivsparseError: a location outside the folder, no such file, or one that is too short.
    """
    import onnx

    for tensor in _tensors(model.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            tensor.raw_data = _content(tensor, file)
            tensor.data_location = onnx.TensorProto.DEFAULT
            del tensor.external_data[:]


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for sparse in (attribute.sparse_tensor, *attribute.sparse_tensors):
                yield from (sparse.values, sparse.indices)
        for body in bodies(node):
            yield from _tensors(body)


def _content(tensor: onnx.TensorProto, file: Path) -> bytes:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    where = f"{file}: external data '{location}' of constant '{tensor.name}'"
    path = _beside(file, location, where)
    try:
        offset, size = int(entries.get("offset", 0)), path.stat().st_size
        length = int(entries.get("length", size - offset))
    except ValueError as error:
        raise ActivsparseError(
            f"{where}: its offset or length is no number; export or copy the model again"
        ) from error
    if not (0 <= offset <= size and 0 <= length <= size - offset):
        raise ActivsparseError(
            f"{where}: bytes {offset} to {offset + length} of {size} are damaged or missing; "
            "copy that file again, whole"
        )
    try:
        with path.open("rb") as stream:
            stream.seek(offset)
            return stream.read(length)
    except OSError as error:
        raise ActivsparseError(f"{where}: {error.strerror}; keep it readable") from error


def _beside(file: Path, location: str, where: str) -> Path:
    """Return the path of a location, with links followed, if it is below the model's folder."""
    folder = file.resolve().parent
    outside = ActivsparseError(
        f"{where} lies outside the model's folder; keep it beside the model, or export it as a "
        "single file"
    )
    if not location or "\0" in location or Path(location).is_absolute():
        raise outside
    try:
        # A model that is a link may have its data beside the link or beside the file itself.
        places = [
            place
            for beside in (file.absolute().parent, folder)
            if (place := (beside / location).resolve()).is_relative_to(beside.resolve())
            or place.is_relative_to(folder)
        ]
        found = next((place for place in places if place.is_file()), None)
    except (OSError, RuntimeError):
        places, found = [folder], None
    if not places:
        raise outside
    if found is None:
        raise ActivsparseError(
            f"{where} is missing; keep that file beside the model, or export it as a single file"
        )
    return found
