"""The C interface, from a C99 program linked with the engine's static library."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import activsparse

ROOT = Path(__file__).parents[2]
BUILT = [p for p in ROOT.glob("build/*/libactivsparse_engine.a") if "sanitize" not in p.parent.name]
LIBRARY = max(BUILT, key=lambda p: p.stat().st_mtime, default=None)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
@pytest.mark.skipif(LIBRARY is None, reason="the static library is not built (make native)")
def test_a_c99_program_runs_a_masked_convolution(tmp_path: Path) -> None:
    program = tmp_path / "capi_conv"
    compiled = subprocess.run(
        [
            *("gcc", "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-O1"),
            *("-I", ROOT / "native" / "include", ROOT / "tests" / "native" / "capi_conv.c"),
            *("-o", program, LIBRARY, "-lstdc++", "-lpthread", "-lm"),
        ],
        capture_output=True,
        text=True,
    )
    assert compiled.returncode == 0, compiled.stderr
    ran = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert ran.stdout == f"ok {activsparse.__version__}\n", ran.stdout + ran.stderr
    assert ran.returncode == 0
