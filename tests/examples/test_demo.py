"""The demo, one epoch each: everything from images to a report, as a newcomer runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"


@pytest.mark.slow
def test_demo_goes_through_twice(tmp_path: Path):
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- demo:begin -->\nold\n<!-- demo:end -->\nafter\n")
    command = [sys.executable, DEMO, "--out", "out", "--epochs", "1", "--repeat", "3"]
    for _ in range(2):
        result = subprocess.run(
            [*command, "--readme", readme], cwd=tmp_path, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stdout + result.stderr
    figures = json.loads((tmp_path / "out/bench.json").read_text())
    assert {row["model"] for row in figures["rows"]} == {
        f"out/{name}.onnx" for name in ("dense", "paper", "tiles")
    }
    assert "tiles 0.3" in (tmp_path / "out/report.html").read_text()
    text = readme.read_text()
    assert text.startswith("before\n<!-- demo:begin -->\nA small residual network on digits")
    assert text.endswith("<!-- demo:end -->\nafter\n")
    assert "old" not in text
    assert "| tiles 0.3 |" in text
