"""Skips fail a run of continuous integration unless they are listed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = """
import pytest

def test_passes():
    pass

@pytest.mark.skipif(True, reason="{reason}")
def test_is_skipped():
    pass

@pytest.mark.xfail
def test_is_known_to_fail():
    raise AssertionError
"""


@pytest.mark.parametrize(
    ("reason", "variable", "status"),
    [
        ("needs a unicorn", "1", 1),
        ("needs a unicorn", "0", 0),
        ("needs litert-torch", "1", 0),
        ("the machine has no AVX-512", "1", 0),
    ],
)
def test_only_listed_reasons_pass(tmp_path: Path, reason: str, variable: str, status: int) -> None:
    (tmp_path / "test_it.py").write_text(TESTS.format(reason=reason))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "skips", "--rootdir", tmp_path, tmp_path],
        env={**os.environ, "ACTIVSPARSE_CI": variable, "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == status, done.stdout
    assert ("does not list" in done.stdout) == (status == 1)


def test_a_module_that_is_skipped_counts(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text("import pytest\npytest.importorskip('no_such_package')\n")
    (tmp_path / "test_other.py").write_text("def test_passes(): pass\n")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "skips", "--rootdir", tmp_path, tmp_path],
        env={**os.environ, "ACTIVSPARSE_CI": "1", "PYTHONPATH": str(Path(__file__).parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1, done.stdout
    assert "no_such_package" in done.stdout
