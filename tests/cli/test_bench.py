"""`activsparse bench` as a user calls it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


def bench(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "activsparse", "bench", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_prints_a_table_and_writes_json(dense: Path, tmp_path: Path):
    out = tmp_path / "bench.json"
    result = bench("--dense", dense, "--engines", "onnxruntime", "--repeat", 3, "--json", out)
    assert result.returncode == 0, result.stderr
    assert "onnxruntime" in result.stdout
    data = json.loads(out.read_text())
    assert [row["engine"] for row in data["rows"]] == ["onnxruntime"]
    assert data["rows"][0]["max_abs_err"] == 0.0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--dense", "missing.onnx"], "missing.onnx: no such file"),
        (["--dense", "{dense}", "--engines", "tvm"], "no engine named 'tvm'"),
        (["--dense", "{dense}", "--engines", ","], "argument --engines: names no engine"),
        (["--dense", "{dense}", "--isa", "mmx"], "mmx"),
        (["--dense", "{dense}", "--threads", "0"], "argument --threads"),
        (["--dense", "{dense}", "--repeat", "many"], "argument --repeat"),
        (["--dense", "{dense}", "--json", "no/such/folder.json"], "cannot be written"),
        (["--dense", "{garbage}"], "garbage.onnx"),
        ([], "--dense"),
    ],
)
def test_bad_input_is_one_line_and_exits_2(
    args: list[str], message: str, dense: Path, tmp_path: Path
):
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"not a model")
    result = bench(*(arg.format(dense=dense, garbage=garbage) for arg in args))
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert message in lines[0]


def test_a_failed_run_leaves_no_output(tmp_path: Path):
    out = tmp_path / "bench.json"
    assert bench("--dense", tmp_path / "missing.onnx", "--json", out).returncode == 2
    assert list(tmp_path.iterdir()) == []
