"""Whatever a command writes: where it cannot, one line names the file, and nothing is left."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from activsparse import cli

BENCH = ["bench", "--dense", "dense.onnx", "--engines", "activsparse", "--repeat", "1"]
ENGINE = {
    "compile": ["compile", "sparse.onnx", "--out", "{out}.plan"],
    "mask": ["mask", "dense.onnx", "--sparsity", "0.3", "--include-stem", "--out", "{out}.onnx"],
    "explain": ["explain", "sparse.onnx", "--repeat", "1", "--json", "{out}.json"],
    "run": ["run", "sparse.onnx", "--input", "x.npy", "--output", "{out}.npy"],
    "bench": [*BENCH, "--json", "{out}.json"],
    "convert": ["convert", "sparse.onnx", "--no-verify", "--tflite", "{out}.tflite"],
}
TRAINING = {
    "export": ["export", "run", "--out", "{out}.onnx"],
    "export dense": ["export", "run", "--out", "o.onnx", "--dense", "{out}.onnx"],
    "export header": ["export", "run", "--out", "o.onnx", "--header", "{out}.h"],
    "sensitivity": ["sensitivity", "run", "--images", "8", "--sparsities", "0.3", "--out", "{out}"],
    "prune": ["prune", "run", "--ratio", "0.5", "--out", "{out}"],
    "train": ["train", "--recipe", "digits_demo", "--out", "{out}"],
}


@pytest.fixture
def folder(dense, sparse, tmp_path, monkeypatch) -> Path:
    """Two models and an input, in the working folder."""
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.zeros((1, 3, 8, 8), np.float32))
    return tmp_path


@contextmanager
def no_room() -> Iterator[None]:
    """No file may grow, as on a full disk: writing fails, making a file does not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def is_refused(words: list[str], out: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The line of a command that cannot write; it must name the file and leave nothing."""
    before = sorted(Path().rglob("*"))
    assert cli.main([word.format(out=out) for word in words]) == 2
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    (name,) = (word.format(out=out) for word in words if "{out}" in word)
    assert name in line
    assert "Wrote" not in printed.out
    assert sorted(Path().rglob("*")) == before
    return line


@pytest.mark.parametrize("command", ENGINE)
def test_a_full_disk(folder, command, capsys):
    if command == "convert":
        pytest.importorskip("flatbuffers")
        pytest.importorskip("ai_edge_litert")
    with no_room():
        line = is_refused(ENGINE[command], "out", capsys)
    assert "cannot be written (File too large); make room" in line


@pytest.mark.parametrize("place", ["none/out", "/proc/out", "n" * 5000, "x.npy/out"])
@pytest.mark.parametrize("command", ENGINE)
def test_a_place_that_takes_no_file(folder, command, place, capsys, monkeypatch):
    monkeypatch.setattr("activsparse.errors._LONGEST", 20_000)
    is_refused(ENGINE[command], place, capsys)


@pytest.mark.parametrize("command", ENGINE)
def test_a_folder_in_the_place_of_the_file(folder, command, capsys):
    (suffix,) = (Path(word).suffix for word in ENGINE[command] if "{out}" in word)
    Path(f"taken{suffix}").mkdir()
    assert "is a folder" in is_refused(ENGINE[command], "taken", capsys)


@pytest.fixture
def run_folder(folder) -> Path:
    pytest.importorskip("torch")
    from runs import make_run

    make_run(folder / "run", "sparsity.sparsity=0.3")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("command", TRAINING)
def test_a_full_disk_after_training(run_folder, command, capsys):
    words = [word.format(out="out") for word in TRAINING[command]]
    with no_room():
        assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    outputs = [word for word in words if word.startswith("o")]
    assert any(f"{name}: cannot be written" in line or f"{name}/" in line for name in outputs)
    assert "make room" in line
    assert [file for file in Path().rglob("*out*") if file.is_file()] == []
    assert not Path("o.onnx").exists()


@pytest.mark.slow
@pytest.mark.parametrize("command", TRAINING)
def test_a_place_that_takes_no_result_of_training(run_folder, command, capsys):
    for place in ("/proc/out", "x.npy/out"):
        is_refused(TRAINING[command], place, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["png", "svg", "pdf"])
def test_a_plot_on_a_full_disk(run_folder, suffix, capsys):
    words = ["sensitivity", "run", "--images", "8", "--sparsities", "0.3", "--plot"]
    with no_room():
        is_refused([*words, f"{{out}}.{suffix}"], "out", capsys)


@pytest.mark.parametrize("report", [False, True])
def test_drawings_and_reports_on_a_full_disk(folder, capsys, monkeypatch, report):
    torch = pytest.importorskip("torch")
    pytest.importorskip("jinja2")
    from PIL import Image

    from activsparse.detect import draw
    from activsparse.detect.boxes import Detections

    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    monkeypatch.setattr(draw, "find", lambda *args: nothing)
    Image.new("RGB", (8, 8)).save("p.png")
    words = ["detect", "sparse.onnx", "p.png", "--out", "drawn"]
    if report:
        monkeypatch.setattr(Image.Image, "save", lambda self, file, **options: None)
        words += ["--dense", "dense.onnx", "--report", "r.html"]
    with no_room():
        assert cli.main(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{'r.html' if report else 'drawn/p.png'}: cannot be written" in line
    assert [file.name for file in Path().rglob("*") if file.name.endswith(".html")] == []
