"""`activsparse mask` as users run it."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

import activsparse

SOURCE = str(Path(activsparse.__file__).resolve().parents[1])
ARGUMENTS = ["--sparsity", "0.3", "--out", "masked.onnx"]


def mask(folder, *arguments):
    return subprocess.run(
        [sys.executable, "-m", "activsparse", "mask", *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "120", "PYTHONPATH": SOURCE},
        capture_output=True,
        text=True,
    )


def two_convolutions():
    text = """<ir_version: 8, opset_import: ["" : 17]>
    g (float[N, 3, 20, 24] x) => (float[N, 16, 20, 24] y)
    {
        [first] a = Conv<pads = [1, 1, 1, 1]>(x, w)
        [second] y = Conv<pads = [1, 1, 1, 1]>(a, v)
    }"""
    model = onnx.parser.parse_model(text)
    rng = np.random.default_rng(0)
    for name, channels in (("w", 3), ("v", 16)):
        weight = rng.standard_normal((16, channels, 3, 3)).astype(np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    return model


@pytest.fixture
def folder(tmp_path):
    onnx.save(two_convolutions(), tmp_path / "dense.onnx")
    return tmp_path


def outputs(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def test_masked_file_equals_the_dense_one_at_kept_positions(folder):
    result = mask(folder, "dense.onnx", *ARGUMENTS)
    assert result.returncode == 0, result.stderr
    model = onnx.load(folder / "masked.onnx")
    constant = next(t for t in model.graph.initializer if t.name == "second.activation_mask")
    kept = onnx.numpy_helper.to_array(constant)[0, 0] == 1
    assert 1 - kept.mean() == pytest.approx(0.3, abs=0.03)

    x = np.random.default_rng(1).standard_normal((2, 3, 20, 24)).astype(np.float32)
    dense, sparse = (outputs(folder / name, x) for name in ("dense.onnx", "masked.onnx"))
    np.testing.assert_array_equal(sparse, dense * kept)


def test_table_shows_requested_and_achieved(folder):
    result = mask(folder, "dense.onnx", *ARGUMENTS, "--pattern", "lattice")
    for word in ("second", "3x3/1", "20x24", "lattice", "0.300", "weighted mean of 1"):
        assert word in result.stdout
    assert "Dense, stem: 1 (first)" in result.stdout


@pytest.mark.parametrize("pattern", ["auto", "lattice", "tiles", "random"])
def test_a_layer_left_dense_is_called_dense(folder, pattern):
    options = ["--sparsity", "0", "--out", "masked.onnx", "--pattern", pattern]
    result = mask(folder, "dense.onnx", *options, "--input-size", "20x24")
    assert result.returncode == 0, result.stderr
    (row,) = [line for line in result.stdout.splitlines() if "3x3/1" in line]
    assert [cell.strip() for cell in row.split("│")[4:7]] == ["dense", "0.000", "0.000"]


def test_all_options_together(folder):
    result = mask(
        folder,
        "dense.onnx",
        *ARGUMENTS,
        *("--pattern", "random", "--block", "2", "--site", "conv", "--fill", "nearest"),
        *("--skip", "first", "--only", "sec*", "fir*", "--kernel-sizes", "3x3", "1x1"),
        *("--seed", "3", "--include-stem", "--include-shortcuts", "--input-size", "20x24"),
    )
    assert result.returncode == 0, result.stderr
    more = ("masked.onnx", "--sparsity", "0.3", "--out", "again.onnx")
    again = mask(folder, *more)
    assert (again.returncode, again.stdout) == (2, "")
    assert "masked.onnx: holds 1 masks already" in again.stderr
    assert mask(folder, *more, "--replace").returncode == 0
    direct = mask(folder, "dense.onnx", "--sparsity", "0.3", "--out", "direct.onnx")
    assert direct.returncode == 0
    assert onnx.load(folder / "again.onnx") == onnx.load(folder / "direct.onnx")


def truncate(folder):
    data = (folder / "dense.onnx").read_bytes()
    (folder / "dense.onnx").write_bytes(data[: len(data) // 2])


def scribble(folder):
    (folder / "dense.onnx").write_text("this is no model\n" * 9)


def empty(folder):
    (folder / "dense.onnx").write_bytes(b"")


def delete(folder):
    (folder / "dense.onnx").unlink()


@pytest.mark.parametrize(
    ("damage", "arguments", "message"),
    [
        (truncate, ARGUMENTS, "dense.onnx: not an ONNX file, or a damaged one"),
        (scribble, ARGUMENTS, "dense.onnx: not an ONNX file, or a damaged one"),
        (empty, ARGUMENTS, "dense.onnx: holds no ONNX graph"),
        (delete, ARGUMENTS, "dense.onnx: no such file"),
        (None, ["--sparsity", "1.2", "--out", "masked.onnx"], "'1.2' is no sparsity in [0, 1)"),
        (None, ["--sparsity", "nan", "--out", "masked.onnx"], "'nan' is no sparsity in [0, 1)"),
        (None, ["--sparsity", "0.3", "--out", "no/masked.onnx"], "no/masked.onnx: cannot be writ"),
        (None, ["--sparsity", "0.3", "--out", "."], ".: is a folder"),
        (None, [*ARGUMENTS, "--skip", "secont"], "did you mean second"),
        (None, [*ARGUMENTS, "--skip", "*"], "no convolution is left to mask"),
        (
            None,
            [*ARGUMENTS, "--kernel-sizes", "3"],
            "'3' is no size; write HEIGHTxWIDTH, such as 3x3",
        ),
        (None, [*ARGUMENTS, "--seed", "-1"], "'-1' is not a whole number from 0"),
        (None, [*ARGUMENTS, "--block", "0"], "'0' is not a whole number from 1"),
        (None, ["--sparsity", "0.3"], "required: --out"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(folder, damage, arguments, message):
    if damage:
        damage(folder)
    before = sorted(path.name for path in folder.iterdir())
    result = mask(folder, "dense.onnx", *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert result.stdout == ""
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize("pattern", ["auto", "lattice"])
def test_too_much_for_a_lattice_says_where_what_and_how_else(folder, pattern):
    model = onnx.load(folder / "dense.onnx")
    pointwise = np.ones((4, 16, 1, 1), np.float32)  # the one kind `auto` lays lattices on only
    model.graph.initializer.append(onnx.numpy_helper.from_array(pointwise, "u"))
    model.graph.node.add(op_type="Conv", name="third", input=["y", "u"], output=["z"])
    model.graph.output[0].CopyFrom(
        onnx.helper.make_tensor_value_info("z", onnx.TensorProto.FLOAT, ["N", 4, 20, 24])
    )
    onnx.save(model, folder / "dense.onnx")
    options = ["--include-head", "--sparsity", "0.98", "--out", "masked.onnx"]
    result = mask(folder, "dense.onnx", *options, "--pattern", pattern)
    assert result.returncode == 2
    assert f"error: dense.onnx: pattern {pattern} cannot skip sparsity 0.98" in result.stderr
    assert "third (20x24)" in result.stderr
    assert ("second" in result.stderr) == (pattern == "lattice")
    assert mask(folder, "dense.onnx", *options, "--pattern", "tiles").returncode == 0
    options[2] = "0.96875"
    assert mask(folder, "dense.onnx", *options, "--pattern", pattern).returncode == 0


def test_layers_that_would_lose_all_are_named_at_once(folder):
    options = ["--sparsity", "0.999", "--pattern", "random", "--include-stem"]
    result = mask(folder, "dense.onnx", *options, "--out", "masked.onnx", "--input-size", "20x24")
    assert result.returncode == 2
    assert "dense.onnx: sparsity 0.999 keeps no position of: " in result.stderr
    assert "first (20x24), second (20x24)" in result.stderr
