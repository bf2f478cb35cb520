"""The example of docs/detection.md, where the package it is about is installed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import activsparse
from activsparse import Session

TEXT = (Path(__file__).parents[2] / "docs" / "detection.md").read_text()


@pytest.mark.slow
def test_the_python_runs(tmp_path):
    pytest.importorskip("ultralytics")
    (block,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    (tmp_path / "example.py").write_text(block)
    done = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(activsparse.__file__).parents[1]),
            "YOLO_OFFLINE": "true",
            "YOLO_CONFIG_DIR": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    rows = Session(tmp_path / "sparse.onnx", tune=False).explain()
    assert sum(bool(row.requested) for row in rows) > 20
