"""LiteRT interpreters that run on this engine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from activsparse.errors import ActivsparseError
from activsparse.files import installed_library, require_file

__all__ = ["delegate_path", "interpreter"]

_LIBRARY = "libactivsparse_litert.so"


def delegate_path() -> Path:
    """Return the delegate's library, for `ai_edge_litert.interpreter.load_delegate`.

    Raises:
        ActivsparseError: this installation was built without it.
    """
    return installed_library(_LIBRARY)


def interpreter(
    path: str | os.PathLike[str], *, threads: int = 1, tune: bool = True, **options: Any
) -> Any:
    """Make an `ai_edge_litert.interpreter.Interpreter` with the delegate, ready to run.

    Args:
        path: a .tflite file.
        threads: for the delegate and for what is left to LiteRT.
        tune: measure algorithms, which takes up to some seconds; otherwise estimates decide.
        options: further arguments of `Interpreter`.

    Returns:
        The interpreter, its tensors allocated.

    Raises:
        ActivsparseError: LiteRT, the library or the file is missing, an option is wrong, or LiteRT
            cannot run the model.
    """
    try:
        from ai_edge_litert.interpreter import Interpreter, load_delegate
    except ModuleNotFoundError as error:
        raise ActivsparseError(
            "LiteRT is not installed; pip install 'activsparse[litert]'"
        ) from error

    file = require_file(path)
    settings = {"threads": str(threads), "tune": str(int(tune))}
    try:
        delegate = load_delegate(str(delegate_path()), settings)
        made = Interpreter(
            str(file), num_threads=threads, experimental_delegates=[delegate], **options
        )
        made.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        cause = " ".join(str(error).split())
        raise ActivsparseError(f"{file}: LiteRT cannot run it: {cause}") from error
    return made
