"""The tutorial, as it stands: its Python, its commands (as a quick trial), its way to use them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import activsparse

TEXT = (Path(__file__).parents[2] / "docs" / "tutorial.md").read_text()
BLOCKS = re.findall(r"^```(python)?\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(activsparse.__file__).parents[1]),
    "OMP_NUM_THREADS": "1",
}


@pytest.mark.slow
def test_it_runs_from_the_first_line_to_the_last(tmp_path):
    for language, block in BLOCKS:
        words = [sys.executable, "-c", block]
        if language != "python":
            _, *arguments = shlex.split(block)
            trial = ["--quick"] if "--target-speedup" in arguments else []
            words = [sys.executable, "-m", "activsparse", *arguments, *trial]
        done = subprocess.run(
            words, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=900
        )
        assert done.returncode == 0, f"{block}\n{done.stderr[-2000:]}"
        if "--target-speedup" in block:
            assert "times as fast as your dense network here" in done.stdout
    assert (tmp_path / "faster" / "README.md").is_file()
