"""verify, explain and run as a user calls them."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from activsparse import cli


def command(*args) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "activsparse", *map(str, args)],
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_verify(sparse):
    result = command("verify", sparse, "--isa", "scalar", "--threads", 2, "--seed", 3)
    assert result.returncode == 0, result.stderr
    assert "holds" in result.stdout


def test_verify_fails_where_the_bound_does_not_hold(sparse, monkeypatch, capsys):
    monkeypatch.setattr("activsparse.engine.tolerance.NETWORK_SAFETY", 0.0)
    assert cli.main(["verify", str(sparse)]) == 1
    assert "does not hold" in capsys.readouterr().out


def test_verify_without_onnxruntime(sparse, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert cli.main(["verify", str(sparse)]) == 2
    assert "pip install" in capsys.readouterr().err


def test_explain(sparse, tmp_path):
    file = tmp_path / "out.json"
    result = command("explain", sparse, "--json", file, "--repeat", 2)
    assert result.returncode == 0, result.stderr
    assert "conv" in result.stdout
    content = json.loads(file.read_text())
    (row,) = [row for row in content["nodes"] if row["kind"] == "conv"]
    assert 0.1 < row["requested"] < 0.6
    assert row["time_ms"] > 0
    assert content["total"]["weight_bytes"] > 0


def test_explain_lists_candidates(sparse, tmp_path):
    file = tmp_path / "out.json"
    result = command("explain", sparse, "--candidates", "--json", file, "--repeat", 1)
    assert result.returncode == 0, result.stderr
    assert "candidates" in result.stdout
    nodes = json.loads(file.read_text())["nodes"]
    assert all([row["algorithm"], None] in row["candidates"] for row in nodes)  # none was timed


@pytest.mark.parametrize("verb", ["verify", "explain"])
def test_without_winograd(sparse, verb):
    result = command(verb, sparse, "--no-winograd", "--no-tune")
    assert result.returncode == 0, result.stderr
    assert "winograd" not in result.stdout


def test_explain_strict_on_a_dense_model(dense):
    assert command("explain", dense, "--strict", "--repeat", 1).returncode == 0


def test_explain_strict_on_a_wasted_mask(tmp_path):
    import onnx
    from onnx import parser

    model = parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 2, 2, 2] x) => (float[1, 2, 2, 2] y)
        <float[1, 1, 2, 2] m = {1, 0, 1, 1}> { y = Mul(x, m) }"""
    )
    path = tmp_path / "wasted.onnx"
    onnx.save(model, path)
    result = command("explain", path, "--strict", "--repeat", 1)
    assert result.returncode == 1
    assert "saves nothing" in result.stdout
    assert command("explain", path, "--repeat", 1).returncode == 0


def test_run(sparse, tmp_path):
    from activsparse import Session

    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)
    np.save(tmp_path / "x.npy", x)
    result = command("run", sparse, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), Session(sparse).run(x))


@pytest.mark.parametrize("content", [b"", b"no numpy file"])
def test_run_on_what_is_no_array(sparse, tmp_path, content):
    (tmp_path / "x.npy").write_bytes(content)
    result = command("run", sparse, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "y.npy").exists()


def test_run_into_a_missing_folder(sparse, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 8, 8), np.float32))
    output = tmp_path / "none" / "y.npy"
    result = command("run", sparse, "--input", tmp_path / "x.npy", "--output", output)
    assert result.returncode == 2
    assert str(output) in result.stderr


@pytest.fixture
def plan(sparse, tmp_path):
    path = tmp_path / "model.plan"
    result = command("compile", sparse, "--out", path, "--target", "x86-64", "--threads", 2)
    assert result.returncode == 0, result.stderr
    return path


def test_commands_take_a_plan(plan, sparse, tmp_path):
    result = command("verify", sparse, "--plan", plan)
    assert result.returncode == 0, result.stderr
    assert "scalar, 2 thread(s)" in result.stdout
    assert command("explain", plan, "--repeat", 1).returncode == 0
    x = np.random.default_rng(0).standard_normal((1, 3, 8, 8), np.float32)
    np.save(tmp_path / "x.npy", x)
    result = command("run", plan, "--input", tmp_path / "x.npy", "--output", tmp_path / "y.npy")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("words", [["verify"], ["bench", "--dense"]])
def test_commands_that_need_the_model(words, plan):
    result = command(*words, plan)
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert str(plan) in result.stderr


def test_compiling_for_other_machines(sparse, tmp_path):
    from activsparse import ActivsparseError, Session, _native
    from activsparse.engine.compile import TARGETS

    for target, isa in TARGETS.items():
        path = tmp_path / f"{target}.plan"
        result = command("compile", sparse, "--out", path, "--target", target)
        assert result.returncode == 0, result.stderr
        assert f"for {isa}" in result.stdout
        if isa in _native.available_isas():
            assert Session(path).isa == isa
        else:
            with pytest.raises(ActivsparseError, match=f"compiled for '{isa}'"):
                Session(path)


def test_compiling_for_an_unknown_machine(sparse, tmp_path):
    path = tmp_path / "model.plan"
    result = command("compile", sparse, "--out", path, "--target", "x86-64-v9")
    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1
    assert "x86-64-v9" in result.stderr
    assert not path.exists()
