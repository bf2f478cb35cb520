"""Refusing to write over or into what is read: paths may be spelled in any way."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from activsparse.errors import ActivsparseError, Option

__all__ = ["refuse_overwrite", "refuse_within_images"]

_OF_A_RUN = ("config.yaml", "*.ckpt", "metrics.csv", "summary.json")
"""Files of a run folder that cannot be made again."""

FilePath = str | os.PathLike[str]


def refuse_overwrite(inputs: Iterable[FilePath], outputs: Iterable[FilePath | None]) -> None:
    """Check that no output is one of the inputs, be it by a link or another spelling.

    Args:
        inputs: files, with the external data of ONNX files among them, and run folders.
        outputs: files to write; None stands for one that is not asked for.

    Raises:
        ActivsparseError: one of them is.
    """
    existing = [Path(path) for path in outputs if path is not None and _exists(path)]
    if not existing:
        return
    for path in inputs:
        for file in _read_with(Path(path)):
            for output in existing:
                if _exists(file) and file.samefile(output):
                    of = "" if file == Path(path) else f" as a part of {path}"
                    raise ActivsparseError(
                        f"{output}: is read here{of}, and would be lost; name another file to write"
                    )


def refuse_within_images(folder: FilePath, root: FilePath) -> None:
    """Check that a folder of results does not lie where images are read.

    Args:
        folder: of the results, which need not exist.
        root: of the images.

    Raises:
        ActivsparseError: it does.
    """
    if Path(folder).resolve().is_relative_to(Path(root).resolve()):
        raise ActivsparseError(
            f"{os.fspath(folder)}: lies within the images, and would be taken for a class of them; "
            "name a folder elsewhere in ",
            Option("out"),
        )


def _exists(path: FilePath) -> bool:
    return os.path.exists(path)  # noqa: PTH110 (Path.exists fails where a name is too long)


def _read_with(path: Path) -> Iterator[Path]:
    """A file and what belongs to it, or the files of a run folder."""
    if path.is_dir():
        for pattern in _OF_A_RUN:
            yield from path.rglob(pattern)
    else:
        yield path
        yield from _external_data(path)


def _external_data(path: Path) -> Iterator[Path]:
    """The files beside an ONNX file that hold its weights; none for any other file."""
    if path.suffix != ".onnx" or not path.is_file():
        return
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load(path, load_external_data=False)
    except (DecodeError, ValueError, OSError):
        return  # whoever reads it says what is wrong with it
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                yield path.parent / entry.value
