"""`activsparse run`: run a model on a .npy input."""

from __future__ import annotations

import argparse
import io
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
        help="run a model on a .npy input",
        description="Run a model once on an array stored with numpy.save.",
    )
    parser.add_argument("model", type=Path, metavar="MODEL", help="an ONNX model or a plan")
    parser.add_argument(
        "--input",
        type=Path,
        required=True,
        metavar="NPY",
        help="float32 array in the shape of the model's only input; it also settles the sizes that "
        "the model leaves open",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="NPY",
        help="where to write the output (the first one, if there are several)",
    )
    add_engine_options(parser)


def run(args: argparse.Namespace) -> int:
    """Run the model and write its output."""
    import numpy as np

    from activsparse import Session
    from activsparse.engine.plan_file import is_plan
    from activsparse.errors import ActivsparseError
    from activsparse.files import atomic_path, require_file
    from activsparse.overwrite import refuse_overwrite

    refuse_overwrite([args.model, args.input], [args.output])
    file = require_file(args.input)
    try:
        x = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        cause = " ".join(str(error).split())
        raise ActivsparseError(
            f"{file}: no whole .npy file of numbers ({cause}); write a float32 array to it with "
            "numpy.save"
        ) from error
    if not isinstance(x, np.ndarray):
        raise ActivsparseError(f"{file}: holds several arrays; write one with numpy.save")
    options = session_options(args)
    if options["input_shapes"] is None and not is_plan(args.model):
        options["input_shapes"] = _shapes_of(x, args.model)
    result = Session(args.model, **options).run(x)
    first = result[0] if isinstance(result, list) else result
    content = io.BytesIO()
    np.save(content, first)  # into memory, for into a file numpy does not say why it fails
    with atomic_path(args.output) as temporary:
        temporary.write_bytes(content.getvalue())
    return 0


def _shapes_of(x: npt.NDArray[Any], model: Path) -> dict[str, tuple[int, ...]] | None:
    """The array's shape for a model's only input that leaves sizes open and can take it."""
    from activsparse.engine.input_size import inputs_of

    inputs = inputs_of(model)
    if len(inputs) != 1:
        return None
    ((name, dims),) = inputs.items()
    if dims is None:
        return {name: x.shape}
    fits = len(dims) == x.ndim and all(
        dim in (None, size) for size, dim in zip(x.shape, dims, strict=True)
    )
    return {name: x.shape} if fits and None in dims and x.size else None
