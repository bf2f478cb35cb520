"""Finding files, and writing them so that a failure leaves nothing half-written."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from activsparse.errors import ActivsparseError

__all__ = ["atomic_path", "file_path", "installed_library", "require_file", "writing"]

# A disk that is full, or failing, or a quota: their errors name no file.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to `path` when the block succeeds.

    A symbolic link is followed: the file it points to is replaced, the link stays.

    Raises:
        ActivsparseError: the folder does not exist or cannot be written to, `path` is a folder, a
            device or a pipe, which a rename would destroy, or the disk is full.
    """
    try:
        target = file_path(path).resolve()
        if target.exists() and not target.is_file():
            kind = "a folder" if target.is_dir() else "a device or a pipe"
            raise ActivsparseError(f"{path}: is {kind}; name a file to write")
    except (OSError, RuntimeError) as error:  # too long a name, or links in a circle
        raise _unusable(path, error) from error
    try:
        # Of a name as long as names may be, a part: the temporary one is longer.
        handle, name = tempfile.mkstemp(prefix=f".{target.name[:32]}.", dir=target.parent)
    except OSError as error:
        raise ActivsparseError(
            f"{target}: cannot be written ({error.strerror}); choose an existing, writable folder"
        ) from error
    os.close(handle)
    temporary = Path(name)
    try:
        with writing(target):
            yield temporary
            # mkstemp makes private files; the result gets what a plain open() would give it.
            mask = os.umask(0)
            os.umask(mask)
            temporary.chmod(0o666 & ~mask)
            temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name `path` where the block finds no room: needed where several `atomic_path` are open.

    Raises:
        ActivsparseError: the disk is full, or the like.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise ActivsparseError(
            f"{path}: cannot be written ({error.strerror}); make room, or choose another disk"
        ) from error


def file_path(path: str | bytes | os.PathLike[str], argument: str = "path") -> Path:
    """Return what a user gives for a path as a Path.

    Args:
        path: what was given.
        argument: what it was given as.

    Raises:
        ActivsparseError: it is no path, empty, or holds a zero byte, as no name of a file does.
    """
    try:
        text = os.fsdecode(path)
    except TypeError as error:
        # Of a whole model, the text would be its weights.
        what = repr(path) if path is None or isinstance(path, int | float) else type(path).__name__
        raise ActivsparseError(f"{argument}: {what} is no path; give the name of a file") from error
    if not text:
        raise ActivsparseError(f"{argument}: is empty; give the name of a file")
    if "\0" in text:
        # Of a file's content in place of its name, the beginning.
        raise ActivsparseError(
            f"{argument}: {text[:80]!r} holds a zero byte, as no path does; check the path"
        )
    return Path(text)


def require_file(path: str | bytes | os.PathLike[str]) -> Path:
    """Return `path` as a Path.

    Raises:
        ActivsparseError: there is no such file, or it is a folder, a device or a pipe.
    """
    file = file_path(path)
    try:
        mode = file.stat().st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ActivsparseError(f"{file}: no such file; check the path") from error
    except OSError as error:
        raise _unusable(file, error) from error
    if stat.S_ISDIR(mode):
        raise ActivsparseError(f"{file}: is a folder; name a file")
    if not stat.S_ISREG(mode):
        raise ActivsparseError(f"{file}: is a device or a pipe; name a file")
    if not os.access(file, os.R_OK):
        raise ActivsparseError(f"{file}: you may not read it; change its permissions")
    return file


def _unusable(path: str | bytes | os.PathLike[str], error: OSError | RuntimeError) -> Exception:
    cause = getattr(error, "strerror", None) or str(error)
    return ActivsparseError(f"{os.fsdecode(path)}: {cause}; check the path")


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
