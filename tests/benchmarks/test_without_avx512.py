"""The library that hides AVX-512 from a process, where the machine has it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from activsparse import _native

SOURCE = Path(__file__).parents[2] / "benchmarks" / "without_avx512.c"
SAY = "from activsparse import _native; print(*_native.available_isas())"


@pytest.mark.skipif("avx512" not in _native.available_isas(), reason="AVX-512: there is none")
@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_it_leaves_avx2_or_says_why_it_cannot(tmp_path: Path) -> None:
    library = tmp_path / "without_avx512.so"
    subprocess.run(
        ["gcc", "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC", "-o", library, SOURCE],
        check=True,
    )
    ran = subprocess.run(
        [sys.executable, "-c", SAY],
        env={**os.environ, "LD_PRELOAD": str(library)},
        capture_output=True,
        text=True,
        check=False,
    )
    if ran.returncode == 0:
        assert ran.stdout.split() == ["scalar", "avx2"]
    else:
        assert "cannot hide instructions" in ran.stderr
