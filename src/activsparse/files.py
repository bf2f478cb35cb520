"""Finding files, and writing them so that a failure leaves nothing half-written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from activsparse.errors import ActivsparseError

__all__ = ["atomic_path", "installed_library", "require_file"]


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to `path` when the block succeeds.

    A symbolic link is followed: the file it points to is replaced, the link stays.

    Raises:
        ActivsparseError: the folder does not exist or cannot be written to, or `path` is a folder,
            a device or a pipe, which a rename would destroy.
    """
    target = Path(path).resolve()
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "a device or a pipe"
        raise ActivsparseError(f"{path}: is {kind}; name a file to write")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise ActivsparseError(
            f"{target}: cannot be written ({error.strerror}); choose an existing, writable folder"
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes private files; give the result the permissions a plain open() would have.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def require_file(path: str | os.PathLike[str]) -> Path:
    """Return `path` as a Path.

    Raises:
        ActivsparseError: there is no such file, or it is a folder.
    """
    file = Path(path)
    if file.is_dir():
        raise ActivsparseError(f"{file}: is a folder; name a file")
    if not file.is_file():
        raise ActivsparseError(f"{file}: no such file; check the path")
    return file


def installed_library(name: str) -> Path:
    """Return a shared library that is installed beside the extension module.

    Raises:
        ActivsparseError: this installation was built without it.
    """
    from activsparse import _native  # most users of this module do not need the engine

    path = Path(_native.__file__).with_name(name)
    if not path.is_file():
        raise ActivsparseError(f"{path}: no such file; install activsparse again")
    return path
