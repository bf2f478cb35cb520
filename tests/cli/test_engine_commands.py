"""verify, explain and run as a user calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

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


def test_verify_shows_the_error_relative_to_the_largest_output(sparse, monkeypatch, capsys):
    import onnxruntime

    from activsparse import Session
    from activsparse.engine.verify import compare_with_onnxruntime

    session = Session(sparse)
    run, x = session.run, np.random.default_rng(5).standard_normal((1, 3, 8, 8), np.float32)
    oracle = onnxruntime.InferenceSession(sparse, providers=["CPUExecutionProvider"])
    largest = np.abs(oracle.run(None, {"x": x})[0]).max()
    wrong = np.zeros((1, 4, 8, 8), np.float32)
    wrong[0, 1, 2, 3] = largest / 4
    monkeypatch.setattr(session, "run", lambda x: run(x) + wrong)
    (row,) = compare_with_onnxruntime(sparse, session, 5)
    assert row.reference_max == largest
    assert row.max_rel_err == pytest.approx(0.25, rel=1e-5)
    assert not row.holds
    assert cli.main(["verify", str(sparse), "--seed", "5"]) == 0
    assert "relative" in capsys.readouterr().out


@pytest.mark.parametrize(("off", "relative"), [(0.0, 0.0), (0.5, np.inf), (np.nan, np.nan)])
def test_the_relative_error_where_the_reference_is_zero(off, relative):
    from activsparse.engine.verify import OutputError

    zero = np.zeros((2, 3), np.float32)
    row = OutputError.of("y", zero + np.float32(off), zero, [9.0])
    np.testing.assert_equal(row.max_rel_err, relative)
    assert row.holds == (off == 0)


def test_verify_fails_where_the_bound_does_not_hold(sparse, monkeypatch, capsys):
    monkeypatch.setattr("activsparse.engine.tolerance.NETWORK_SAFETY", 0.0)
    monkeypatch.setattr("activsparse.engine.verify.DRAWS", 0)
    assert cli.main(["verify", str(sparse)]) == 1
    assert "does not hold" in capsys.readouterr().out


def test_where_no_bound_holds_none_is_claimed():
    from activsparse.engine.verify import OutputError

    y = np.full((2, 3), 1e30, np.float32)
    row = replace(OutputError.of("y", y, y, [9.0]), bound=np.inf, trial="huge")
    assert str(row).startswith("output 'y', huge inputs: largest error 0, bound none")
    assert "inf" not in str(row)


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
    assert "masks that save nothing, see above: y" in result.stdout
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


def test_an_open_input_size_is_given_everywhere(dynamic, tmp_path):
    size = ["--input-size", "8x8"]
    out, x = tmp_path / "model.plan", tmp_path / "x.npy"
    np.save(x, np.zeros((1, 3, 8, 8), np.float32))
    for verb in (
        ["explain", dynamic, "--repeat", 1],
        ["verify", dynamic],
        ["run", dynamic, "--input", x, "--output", tmp_path / "y.npy"],
        ["compile", dynamic, "--out", out],
        ["bench", "--dense", dynamic, "--repeat", 1],
    ):
        assert cli.main([str(word) for word in (*verb, *size)]) == 0
    assert np.load(tmp_path / "y.npy").shape == (1, 4, 8, 8)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["explain", "{plan}", "--no-tune"], "cannot change a compiled plan"),
        (["explain", "{plan}", "--input-size", "9x9"], "input size of a plan is settled"),
        (["compile", "{plan}", "--out", "other.plan"], "is a compiled plan already"),
        (["mask", "{plan}", "--sparsity", "0.3", "--out", "o.onnx"], "is a compiled plan"),
        (["explain", "{plan}", "--json", "no/such/folder.json"], "cannot be written"),
        (["run", "{plan}", "--input", "{objects}", "--output", "y.npy"], "Object arrays"),
        (
            ["run", "{plan}", "--input", "{hwc}", "--output", "y.npy"],
            "np.moveaxis(x, -1, -3)[None]",
        ),
    ],
)
def test_misuse_is_one_line(plan, tmp_path, capsys, words, message):
    files = {"plan": plan, "objects": tmp_path / "o.npy", "hwc": tmp_path / "hwc.npy"}
    np.save(files["objects"], np.array([None, 1], object), allow_pickle=True)
    np.save(files["hwc"], np.zeros((8, 8, 3), np.float32))
    assert cli.main([word.format(**files) for word in words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("threads", ["two", 1.5, 0])
def test_threads_are_a_whole_number(sparse, threads):
    from activsparse import Session
    from activsparse.errors import ActivsparseError

    with pytest.raises(ActivsparseError, match="must be a whole number"):
        Session(sparse, threads=threads)


def test_errors_of_the_system_without_a_file_are_one_line(monkeypatch, capsys):
    def fail(args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("activsparse.cli.explain.run", fail)
    assert cli.main(["explain", "model.onnx"]) == 2
    assert (
        capsys.readouterr().err
        == "activsparse: error: standard output, or a temporary file: No space left on device\n"
    )


def with_mask(path, mask):
    import onnx

    model = onnx.load(path)
    constant = next(t for t in model.graph.initializer if t.name.endswith(".activation_mask"))
    mask = np.asarray(mask, np.float32)[None, None]
    constant.CopyFrom(onnx.numpy_helper.from_array(mask, constant.name))
    onnx.save(model, path)
    return path


def test_a_mask_for_another_size_says_both(sparse, capsys):
    assert cli.main(["explain", str(with_mask(sparse, np.eye(7)))]) == 2
    error = capsys.readouterr().err
    assert "1x4x8x8" in error
    assert "1x1x7x7" in error


def test_a_mask_that_keeps_everything_is_called_dense(sparse, capsys):
    words = ["explain", str(with_mask(sparse, np.ones((8, 8)))), "--strict", "--repeat", "1"]
    assert cli.main(words) == 0
    assert "dense: the mask keeps every position" in " ".join(capsys.readouterr().out.split())


def test_a_mask_that_keeps_nothing_is_told(sparse, caplog):
    assert cli.main(["explain", str(with_mask(sparse, np.zeros((8, 8)))), "--repeat", "1"]) == 0
    assert "keeps no position" in caplog.text


def test_what_only_looks_like_a_mask_is_not_replaced(sparse, tmp_path, capsys):
    path = with_mask(sparse, np.full((8, 8), 0.5))
    out = tmp_path / "out.onnx"
    words = ["mask", path, "--replace", "--include-stem", "--sparsity", "0.3", "--out", out]
    assert cli.main([str(word) for word in words]) == 2
    error = capsys.readouterr().err
    assert "sparse.onnx: constant 'conv.activation_mask' has the name of a mask" in error
    assert not out.exists()
