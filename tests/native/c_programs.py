"""Building C programs against the library, for tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_BUILT = [
    path
    for path in ROOT.glob("build/*/libactivsparse.a")
    if "sanitize" not in path.parent.name and "aarch64" not in path.parent.name
]
LIBRARY = max(_BUILT, key=lambda p: p.stat().st_mtime, default=None)

needs_c = pytest.mark.skipif(
    shutil.which("gcc") is None or LIBRARY is None,
    reason="needs gcc and the static library (make native)",
)


def build(program: Path, *sources: str) -> Path:
    """Compile C99 sources, named from the project's root, with every warning an error."""
    compiled = subprocess.run(
        [
            *("gcc", "-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-O2"),
            *("-I", ROOT / "native" / "include", *(ROOT / source for source in sources)),
            *("-o", program, LIBRARY, "-lstdc++", "-lpthread", "-lm"),
        ],
        capture_output=True,
        text=True,
    )
    assert compiled.returncode == 0, compiled.stderr
    return program


def build_cpp(program: Path, source: str) -> Path:
    """Compile a C++ program that uses the library's own headers."""
    compiled = subprocess.run(
        [
            *("g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-O0"),
            *("-I", ROOT / "native", "-I", ROOT / "native" / "include", ROOT / source),
            *("-o", program, LIBRARY, "-lpthread"),
        ],
        capture_output=True,
        text=True,
    )
    assert compiled.returncode == 0, compiled.stderr
    return program


def run(*words: object) -> subprocess.CompletedProcess[str]:
    """Run a program and return what it printed."""
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=120)
