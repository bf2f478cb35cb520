"""Data sets that torchvision can fetch."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException
from pathlib import Path
from tarfile import TarError
from typing import TypeVar

from activsparse.errors import ActivsparseError

__all__ = ["downloaded"]

T = TypeVar("T")

# What torchvision's downloads raise, and what it raises on files with other contents than expected.
_FAILURES = (OSError, RuntimeError, HTTPException, TarError, EOFError, KeyError, ValueError)


def downloaded(
    what: str, root: Path, entries: tuple[str, ...], read: Callable[[str], T], remedy: str
) -> T:
    """Read a data set, after downloading it if it is not there.

    A download that fails or is interrupted leaves nothing behind.

    Args:
        what: the data set's name, for the message.
        root: folder it is in, or comes to; created if need be.
        entries: names of what torchvision makes in `root`. If one of them exists, `root` is left to
            torchvision, which takes it or completes it.
        read: reads the data set from a root, and downloads what is missing there.
        remedy: what to do without a network.

    Raises:
        ActivsparseError: it is not there and cannot be downloaded.
    """
    try:
        if not any((root / entry).exists() for entry in entries):
            with _all_or_nothing(root) as folder:
                read(str(folder))
        return read(str(root))
    except _FAILURES as error:
        raise ActivsparseError(
            f"{what} is not in {root} and cannot be downloaded ({error}); {remedy}"
        ) from error


@contextmanager
def _all_or_nothing(root: Path) -> Iterator[Path]:
    """Yield a folder whose content moves to `root` if the block succeeds, and else goes away.

    So do folders on the way to `root` that did not exist. Of what another process has put there
    in the meantime, its copy stays.
    """
    missing = [folder for folder in (root, *root.parents) if not folder.exists()]
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download.", dir=root) as temporary:
            yield Path(temporary)
            for entry in Path(temporary).iterdir():
                if not (root / entry.name).exists():
                    entry.rename(root / entry.name)
    finally:
        for folder in missing:
            with suppress(OSError):  # it is not empty
                folder.rmdir()
