"""`activsparse export` on a trained run; reading the run itself is tested with training."""

import subprocess
import sys
import types

import onnx
import pytest
import torch
from torch import nn

from activsparse import ActivsparseError
from activsparse.cli import main
from activsparse.export.check import Check
from activsparse.export.insert import find_masks
from activsparse.train.sparsify.sparsifier import Sparsifier


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the run `trained` and the dense run `plain`."""
    example = torch.randn(1, 3, 12, 12)

    def load_run(run_dir, checkpoint="best", trust=False):
        names = {"trained": True, "plain": False}
        if run_dir not in names:
            raise ActivsparseError(f"{run_dir}: no such run; train one first")
        torch.manual_seed(len(checkpoint) if checkpoint == "last" else 7)
        model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3)).eval()
        sparsifier = Sparsifier(model, example, 0.25) if names[run_dir] else None
        return types.SimpleNamespace(model=model, sparsifier=sparsifier, example_input=example)

    module = types.ModuleType("activsparse.train.run.folder")
    module.load_run = load_run
    monkeypatch.setitem(sys.modules, "activsparse.train.run.folder", module)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_model_dense_twin_and_header(folder, capsys):
    files = ["--out", "m.onnx", "--dense", "d.onnx", "--header", "masks.h"]
    assert main(["export", "trained", *files]) == 0
    printed = capsys.readouterr().out
    assert "1 masked layers, sparsity 0.2" in printed
    assert "ONNX Runtime agrees with torch: largest error" in printed
    assert sorted(path.name for path in folder.iterdir()) == ["d.onnx", "m.onnx", "masks.h"]
    (mask,) = find_masks(onnx.load("m.onnx").graph)
    assert mask.constant == "2.activation_mask"
    assert find_masks(onnx.load("d.onnx").graph) == []
    assert "const uint8_t LAYER_2[8][8] = {" in (folder / "masks.h").read_text()


def test_a_dense_run(folder, capsys):
    assert main(["export", "plain", "--out", "m.onnx", "--no-verify"]) == 0
    printed = capsys.readouterr().out
    assert "A dense model" in printed
    assert "agrees" not in printed


def test_checkpoint_opset_and_open_batch(folder):
    options = ["--checkpoint", "last", "--opset", "19", "--dynamic-batch"]
    assert main(["export", "trained", "--out", "m.onnx", *options]) == 0
    model = onnx.load("m.onnx")
    assert model.opset_import[0].version == 19
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert main(["export", "trained", "--out", "best.onnx", "--opset", "19"]) == 0
    weights = [m.graph.initializer[0].raw_data for m in (model, onnx.load("best.onnx"))]
    assert weights[0] != weights[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none", "--out", "m.onnx"], "none: no such run"),
        (["trained", "--out", "no/m.onnx"], "no/m.onnx: cannot be written"),
        (["trained", "--out", "m.onnx", "--dense", "no/d.onnx"], "no/d.onnx: cannot be written"),
        (["trained", "--out", "m.onnx", "--dense", "./m.onnx"], "name the same file"),
        (["trained", "--out", "m.onnx", "--opset", "3"], "in opset 18, not 3"),
        (["plain", "--out", "m.onnx", "--header", "masks.h"], "masks.h: there are no masks"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(folder, capsys, arguments, message):
    assert main(["export", *arguments]) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == ""
    assert list(folder.iterdir()) == []


def test_help_as_a_process():
    result = subprocess.run(
        [sys.executable, "-m", "activsparse", "export", "--help"], capture_output=True, text=True
    )
    assert result.returncode == 0
    for option in ("--out", "--dense", "--header", "--checkpoint", "--opset", "--no-verify"):
        assert option in result.stdout


def test_tflite_alone(folder, capsys, monkeypatch):
    written = types.ModuleType("activsparse.export.tflite")

    def export_tflite(model, example_input, path, *, verify):
        path.write_bytes(b"TFL3")
        return Check(1e-7, 1e-5) if verify else None

    written.export_tflite = export_tflite
    monkeypatch.setitem(sys.modules, "activsparse.export.tflite", written)
    assert main(["export", "trained", "--tflite", "m.tflite"]) == 0
    assert "LiteRT agrees with torch: largest error 1.00e-07" in capsys.readouterr().out
    assert [path.name for path in folder.iterdir()] == ["m.tflite"]
    assert main(["export", "trained", "--tflite", "m.tflite", "--header", "masks.h"]) == 2
    assert "--out is missing" in capsys.readouterr().err


def test_the_header_of_any_file_with_masks(folder, capsys):
    assert main(["export", "trained", "--out", "m.onnx", "--header", "of_run.h"]) == 0
    assert main(["export", "m.onnx", "--header", "masks.h"]) == 0
    of_run = (folder / "of_run.h").read_text().replace("OF_RUN_H", "MASKS_H")
    assert (folder / "masks.h").read_text() == of_run
    assert "1 masked layers\nWrote masks.h" in capsys.readouterr().out


def test_the_header_of_masks_that_others_made(folder):
    """Named after what their convolution gives, of fills too."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 1, 4, 4] x) => (float[1, 1, 2, 2] y)
        <float[1, 1, 3, 3] w = {1, 1, 1, 1, 1, 1, 1, 1, 1}, float[1, 1, 2, 2] k = {1, 0, 0, 1},
         int64[3] flat = {1, 1, 4}, int64[4] whole = {1, 1, 2, 2}, int64[4] at = {0, 0, 3, 3}>
        { c = Conv(x, w)  m = Mul(c, k)  p = Conv<pads = [1, 1, 1, 1]>(m, w)
          f = Reshape(p, flat)  g = Gather<axis = 2>(f, at)  y = Reshape(g, whole) }"""
    )
    onnx.save(model, "m.onnx")
    assert main(["export", "m.onnx", "--header", "masks.h"]) == 0
    text = (folder / "masks.h").read_text()
    assert "const uint8_t C[2][2] = {\n  {1, 0},\n  {0, 1}\n};" in text
    assert "const uint8_t P[2][2] = {\n  {1, 0},\n  {0, 1}\n};" in text


@pytest.mark.parametrize("words", [["--out", "o.onnx"], [], ["--header", "masks.h"]])
def test_what_an_onnx_file_cannot_give_is_one_line(folder, capsys, words):
    assert main(["export", "plain", "--out", "m.onnx", "--no-verify"]) == 0
    capsys.readouterr()
    assert main(["export", "m.onnx", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "m.onnx: " in line
    assert not (folder / "masks.h").exists()
