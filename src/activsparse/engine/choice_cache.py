"""Measured times of algorithms, kept in a file so that they are measured once per machine.

A lost, damaged or unwritable file costs only the time to measure again; it is never an error.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import math
import os
import re
import time
from pathlib import Path

from activsparse import __version__, _native
from activsparse.engine.choose import Choice
from activsparse.errors import ActivsparseError
from activsparse.files import atomic_path

__all__ = ["CACHE_VARIABLE", "ChoiceCache", "cache_folder", "machine_file"]

CACHE_VARIABLE = "ACTIVSPARSE_CACHE"
OFF = "off"

_PREFIX = "choices-"
_STALE_SECONDS = 90 * 24 * 3600.0

_log = logging.getLogger(__name__)


def cache_folder() -> Path | None:
    """Return the folder of cache files: ACTIVSPARSE_CACHE, else `activsparse` among the user's.

    None if the variable says "off" or the user has no folder for caches.
    """
    given = os.environ.get(CACHE_VARIABLE, "")
    if given.lower() == OFF:
        return None
    if given:
        return Path(given)
    try:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    except RuntimeError:  # no home
        return None
    return Path(base) / "activsparse"


def machine_file(prefix: str, isa: str, threads: int) -> Path | None:
    """Return the file of what was measured on this machine by this build; None to keep nothing.

    Args:
        prefix: of its name, says what it holds.
        isa: instruction set.
        threads: of the engine.
    """
    folder = cache_folder()
    if folder is None:
        return None
    cpu = re.sub(r"[^a-z0-9]+", "-", str(_native.cpu_info()["name"]).lower()).strip("-")
    return folder / f"{prefix}{cpu}-{isa}-{threads}-{_engine_version()}.json"


class ChoiceCache:
    """Choices by key, in memory and in one file.

    Several processes may use one file: each writes it as a whole, with what it last found there.
    """

    def __init__(self, path: Path | None) -> None:
        """Read the file.

        Args:
            path: the file, which need not exist; None to keep nothing.
        """
        self._path = path
        self._choices = {} if path is None else _read(path)
        self._new: dict[str, Choice] = {}

    @classmethod
    def of_machine(cls, isa: str, threads: int) -> ChoiceCache:
        """Return the user's cache for this machine and build of the engine."""
        return cls(machine_file(_PREFIX, isa, threads))

    def get(self, key: str) -> Choice | None:
        """Return the choice stored under `key`."""
        return self._new.get(key) or self._choices.get(key)

    def put(self, key: str, choice: Choice) -> None:
        """Keep a choice; `save` writes it."""
        self._new[key] = choice

    def save(self) -> None:
        """Write what is new, if anything, beside what others have written meanwhile."""
        if self._path is None or not self._new:
            return
        self._choices = {**_read(self._path), **self._new}
        content = {
            key: {"algorithm": choice.algorithm, "ms": dict(choice.candidates)}
            for key, choice in self._choices.items()
        }
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(self._path) as temporary:
                temporary.write_text(json.dumps({"choices": content}, indent=0) + "\n")
            _remove_stale(self._path)
        except (OSError, ActivsparseError) as error:
            _log.warning(
                "measured choices are not kept: %s; set %s to a writable folder, or to '%s'",
                error,
                CACHE_VARIABLE,
                OFF,
            )
            return
        self._new = {}


def _remove_stale(kept: Path) -> None:
    """Remove files that nobody has written for months: of builds that are gone.

    Not all of other builds: two may be in use on one machine, and share the folder.
    """
    for path in kept.parent.glob(f"{_PREFIX}*.json"):
        with contextlib.suppress(OSError):  # another process may remove it meanwhile
            if path != kept and time.time() - path.stat().st_mtime > _STALE_SECONDS:
                path.unlink()


def _read(path: Path) -> dict[str, Choice]:
    try:
        choices = json.loads(path.read_text())["choices"]
        return {
            str(key): _choice(entry["algorithm"], entry["ms"]) for key, entry in choices.items()
        }
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        _log.warning("%s: ignored, not a file of measured choices (%s)", path, error)
        return {}


def _choice(algorithm: str, times: dict[str, float | None]) -> Choice:
    measured = {name: ms for name, ms in times.items() if ms is not None}
    if algorithm not in measured or not all(0 < ms < math.inf for ms in measured.values()):
        raise ValueError(f"impossible times of '{algorithm}'")
    return Choice(algorithm, tuple(times.items()))


@functools.cache
def _engine_version() -> str:
    """The version and a digest of the compiled half: other kernels, other times."""
    with Path(_native.__file__).open("rb") as file:
        digest = hashlib.blake2b(file.read(), digest_size=4)
    return f"{__version__}-{digest.hexdigest()}"
