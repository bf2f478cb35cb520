"""The aarch64 build and the emulator that runs it."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = ROOT / "build" / "aarch64"
_LIBRARIES = ["-L", "/usr/aarch64-linux-gnu"]
EMULATOR = ["qemu-aarch64-static", "-cpu", "cortex-a72", *_LIBRARIES]
# A Raspberry Pi 4's, and a Raspberry Pi 5's, which has dot products of bytes.
EMULATORS = {
    "neon": EMULATOR,
    "neon-dotprod": ["qemu-aarch64-static", "-cpu", "cortex-a76", *_LIBRARIES],
}
_TOOLS = ("aarch64-linux-gnu-gcc", "aarch64-linux-gnu-g++", EMULATOR[0], "make")

needs_aarch64 = pytest.mark.skipif(
    any(shutil.which(tool) is None for tool in _TOOLS),
    reason="needs gcc and g++ for aarch64-linux-gnu, and qemu-user-static",
)


@contextmanager
def one_at_a_time(build: Path) -> Iterator[None]:
    """Keep tests that run side by side from building in one folder at once."""
    build.parent.mkdir(exist_ok=True)
    with build.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def built() -> Path:
    """`make aarch64`, which takes minutes the first time; returns the folder of its programs."""
    with one_at_a_time(BUILD):
        made = subprocess.run(["make", "aarch64"], cwd=ROOT, capture_output=True, text=True)
    assert made.returncode == 0, made.stdout[-2000:] + made.stderr[-2000:]
    return BUILD
