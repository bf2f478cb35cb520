"""How much memory something takes at most, as the system counts it."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PeakMemory", "peak_memory"]

_PROCESS = Path("/proc/self")


@dataclass
class PeakMemory:
    """What was found.

    Attributes:
        bytes: resident memory beyond what the process held before, at its highest; None where the
            system does not tell (it is Linux that does).
    """

    bytes: int | None = None


@contextmanager
def peak_memory() -> Iterator[PeakMemory]:
    """Within the block, follow this process's resident memory.

    What was freed before is given back first: used again, it would not count. Libraries with heaps
    of their own may keep some, so the first of several blocks may show more than the later ones.
    """
    found = PeakMemory()
    gc.collect()
    with suppress(OSError, AttributeError):  # of glibc
        ctypes.CDLL(None).malloc_trim(0)
    before = _resident("VmRSS") if _forget_peak() else None
    yield found
    peak = _resident("VmHWM")
    if before is not None and peak is not None:
        found.bytes = max(peak - before, 0)


def _forget_peak() -> bool:
    """Let the system's record of the highest amount start anew."""
    try:
        (_PROCESS / "clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _resident(key: str) -> int | None:
    try:
        status = (_PROCESS / "status").read_text()
    except OSError:
        return None
    line = re.search(rf"^{key}:\s+(\d+) kB$", status, re.MULTILINE)
    return int(line[1]) * 1024 if line else None
