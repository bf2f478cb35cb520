"""No command writes over what it reads, under whatever name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest

from activsparse import cli
from activsparse.errors import ActivsparseError
from activsparse.overwrite import refuse_overwrite


@pytest.fixture
def files(dense, sparse, tmp_path, monkeypatch):
    """Inputs of all kinds, in the working folder."""
    monkeypatch.chdir(tmp_path)
    apart = onnx.load(dense)
    (tmp_path / "big").mkdir()
    apart_path = tmp_path / "big" / "apart.onnx"
    onnx.save(apart, apart_path, save_as_external_data=True, location="w.bin", size_threshold=0)
    np.save(tmp_path / "x.npy", np.zeros((1, 3, 8, 8), np.float32))
    run = tmp_path / "run"
    run.mkdir()
    for name in ("config.yaml", "best.ckpt", "metrics.csv"):
        (run / name).write_text(name)
    (tmp_path / "picture.png").write_bytes(b"picture")
    return tmp_path


COMMANDS = {
    "mask": ["mask", "{model}", "--sparsity", "0.3", "--include-stem", "--out", "{out}"],
    "compile": ["compile", "{model}", "--out", "{out}"],
    "convert": ["convert", "{model}", "--tflite", "{out}"],
    "explain": ["explain", "{model}", "--json", "{out}"],
    "run": ["run", "{model}", "--input", "x.npy", "--output", "{out}"],
    "bench": ["bench", "--dense", "dense.onnx", "--sparse", "{model}", "--json", "{out}"],
}


def snapshot(folder: Path) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refuses(words: list[str], folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = snapshot(folder)
    assert cli.main(words) == 2, words
    (line,) = capsys.readouterr().err.splitlines()
    assert "is read here" in line
    assert snapshot(folder) == before


def spellings(path: Path) -> list[str]:
    """Other names of a file in the working folder."""
    (link := Path("link.onnx")).symlink_to(path)
    os.link(path, "hard.onnx")
    return [path.name, str(path.resolve()), f"run/../{path.name}", str(link), "hard.onnx"]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_writes_over_its_model(files, command, capsys):
    for out in spellings(files / "sparse.onnx"):
        words = [word.format(model="sparse.onnx", out=out) for word in COMMANDS[command]]
        refuses(words, files, capsys)


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_writes_over_external_weights(files, command, capsys):
    words = [w.format(model="big/apart.onnx", out="big/w.bin") for w in COMMANDS[command]]
    refuses(words, files, capsys)


@pytest.mark.parametrize(
    "words",
    [
        ["run", "sparse.onnx", "--input", "x.npy", "--output", "x.npy"],
        ["bench", "--dense", "dense.onnx", "--json", "dense.onnx"],
        ["export", "run", "--out", "run/best.ckpt"],
        ["export", "run", "--out", "o.onnx", "--header", "run/config.yaml"],
        ["sensitivity", "run", "--out", "run/metrics.csv"],
        ["detect", "sparse.onnx", "picture.png", "--out", "."],
        ["detect", "x.plan", "picture.png", "--dense", "dense.onnx", "--report", "dense.onnx"],
    ],
)
def test_nor_over_its_other_inputs(files, words, capsys):
    pytest.importorskip("torch")
    refuses(words, files, capsys)


def test_what_is_not_read_may_be_written_over(files, capsys):
    words = [w.format(model="sparse.onnx", out="old.json") for w in COMMANDS["explain"]]
    Path("old.json").write_text("old")
    assert cli.main([*words, "--repeat", "1"]) == 0, capsys.readouterr().err
    assert Path("old.json").read_text() != "old"


def test_an_output_that_does_not_exist_is_no_input(tmp_path):
    refuse_overwrite(
        [tmp_path / "none.onnx"], [tmp_path / "none.onnx", None, tmp_path / ("n" * 300)]
    )
    with pytest.raises(ActivsparseError, match="is read here"):
        refuse_overwrite([__file__], [__file__])
