"""`activsparse run`: run a model on arrays in a file."""

from __future__ import annotations

import argparse
import io
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activsparse.cli.engine_options import add_engine_options, session_options

if TYPE_CHECKING:
    import numpy.typing as npt

__all__ = ["add_parser", "run"]


def add_parser(subparsers: Any) -> None:
    """Add the options of `activsparse run`."""
    parser = subparsers.add_parser(
        "run",
        help="run a model on arrays in a file",
        description="Run a model once on an array stored with numpy.save, or on several stored "
        "with numpy.savez.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX model or a plan")
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        metavar="NPY|NPZ",
        help="the array of the model's only input, or in an .npz file those of all by their names; "
        "also settles the sizes that the model leaves open",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="NPY|NPZ",
        help="where to write the output, the first of several; all of them by their names where "
        "this ends in .npz",
    )
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the model and write its output."""
    import numpy as np

    from activsparse import Session
    from activsparse.engine.plan_file import is_plan
    from activsparse.files import atomic_path
    from activsparse.overwrite import refuse_overwrite

    refuse_overwrite([args.model, args.input], [args.output])
    given = _read(args.input)
    options = session_options(args)
    if options["input_shapes"] is None and not is_plan(args.model):
        options["input_shapes"] = _shapes_of(given, args.model)
    session = Session(args.model, **options)
    results = session.run(None, given) if isinstance(given, dict) else session.run(given)
    found = results if isinstance(results, list) else [results]
    content = io.BytesIO()  # into memory, for into a file numpy does not say why it fails
    if args.output.suffix == ".npz":
        names = (value.name for value in session.get_outputs())
        _write_all(content, dict(zip(names, found, strict=True)))
    else:
        np.save(content, found[0])
    with atomic_path(args.output) as temporary:
        temporary.write_bytes(content.getvalue())
    return 0


def _read(path: Path) -> npt.NDArray[Any] | dict[str, npt.NDArray[Any]]:
    """The array of an .npy file, or those of an .npz file by name."""
    import numpy as np

    from activsparse.errors import ActivsparseError
    from activsparse.files import require_file

    file = require_file(path)
    try:
        held = np.load(file, allow_pickle=False)
        return held if isinstance(held, np.ndarray) else {name: held[name] for name in held.files}
    except (ValueError, EOFError, OSError, zipfile.BadZipFile, zlib.error, KeyError) as error:
        cause = " ".join(str(error).split())
        raise ActivsparseError(
            f"{file}: no whole file of arrays of numbers ({cause}); write a float32 array to it "
            "with numpy.save, or several by name with numpy.savez"
        ) from error


def _write_all(stream: io.BytesIO, arrays: dict[str, npt.NDArray[Any]]) -> None:
    """As `numpy.savez`, for arrays of any name: its own parameters' names are no exception."""
    from numpy.lib import format as npy

    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                npy.write_array(member, array, allow_pickle=False)


def _shapes_of(
    given: npt.NDArray[Any] | dict[str, npt.NDArray[Any]], model: Path
) -> dict[str, tuple[int, ...]] | None:
    """The arrays' shapes for those inputs of a model that leave sizes open and can take them."""
    from activsparse.engine.input_size import inputs_of

    inputs = inputs_of(model)
    if not isinstance(given, dict):
        if len(inputs) != 1:
            return None
        given = dict.fromkeys(inputs, given)
    found = {}
    for name, dims in inputs.items():
        if name not in given:
            continue
        x = given[name]
        if dims is None:
            found[name] = x.shape
            continue
        fits = len(dims) == x.ndim and all(
            dim in (None, size) for size, dim in zip(x.shape, dims, strict=True)
        )
        if fits and None in dims and x.size:
            found[name] = x.shape
    return found or None
