"""A few steps of training, and what the commands write."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from activsparse.cli import main
from activsparse.detect.scenes import Scenes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    pytest.importorskip("pycocotools")
    out = tmp_path_factory.mktemp("detector") / "run"
    settings = [
        "pictures=24", "held_out=4", "image_size=64", "batch_size=8", "training.epochs=2",
        "sparsity.sparsity=0.2", "sparsity.pattern=lattice",
    ]  # fmt: skip
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert main(["train-detector", "--out", str(out), "--set", *settings]) == 0
    torch.set_num_threads(threads)
    return out


def test_a_run_leaves_metrics_and_a_model(run):
    summary = json.loads((run / "summary.json").read_text())
    assert abs(summary["achieved"] - 0.2) < 0.05
    assert len((run / "metrics.csv").read_text().splitlines()) == 3
    assert main(["verify", str(run / "detector.onnx")]) == 0


def test_detect_draws_what_it_finds(run, tmp_path, capsys):
    sample = Scenes(1, "test")[0]
    picture = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
    picture.save(tmp_path / "scene.png")
    out = tmp_path / "drawn"
    command = ["detect", str(run / "detector.onnx"), str(tmp_path / "scene.png")]
    assert main([*command, "--out", str(out), "--score", "0.0001"]) == 0
    assert "object(s)" in capsys.readouterr().out
    drawn = Image.open(out / "scene.png")
    assert drawn.size == picture.size
    assert drawn.tobytes() != picture.tobytes()
    (tmp_path / "text.png").write_text("no picture")
    assert main(["detect", str(run / "detector.onnx"), str(tmp_path / "text.png")]) == 2
    assert "not a picture" in capsys.readouterr().err
