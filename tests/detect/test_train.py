"""Detectors through the trainer that classifiers use: tiny real trainings on scenes of digits."""

from __future__ import annotations

import csv
import json

import pytest
import torch
import trees
from PIL import Image
from runs import StopAt, run

from activsparse import ActivsparseError
from activsparse.cli import main
from activsparse.detect.scenes import Scenes
from activsparse.train import load_run, trainer
from activsparse.train.recipes.read import load_config
from activsparse.train.run.interrupt import Interrupted

TINY = """
threads: 1
model: {name: yolov5n}
data:
  name: fashion_scenes
  image_size: 64
  batch_size: 4
  validation: 0.34
  options: {pictures: 12, test_pictures: 4, source: digits}
training: {epochs: 2, optimizer: adamw, lr: 2.0e-3, schedule: cosine}
sparsity: {sparsity: 0.2, pattern: random, begin: 0.1, end: 0.6}
"""
ACCUMULATE = "training.accumulate=2"


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(TINY)
    return str(file)


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, trainer.train(load_config(recipe), folder)


def state(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


def test_a_run_leaves_figures_and_a_model(finished, tmp_path):
    folder, summary = finished
    assert summary == json.loads((folder / "summary.json").read_text())
    assert {"map50", "map", "val_map50"} <= set(summary)
    assert abs(summary["achieved"] - 0.2) < 0.05
    assert not any(layer["name"].startswith("head") for layer in summary["layers"])
    rows = list(csv.DictReader((folder / "metrics.csv").open()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert {"train_box", "train_object", "train_class", "val_map50"} <= set(rows[0])
    anchors = load_run(folder).model.head.anchors
    assert (anchors.flatten(0, 1).prod(1).diff() > 0).all()
    assert float(anchors.max()) < 64


@pytest.mark.parametrize("step", [2, 4])
def test_a_stopped_run_continues_bit_equal(step, finished, recipe, tmp_path, monkeypatch):
    folder, _ = finished
    monkeypatch.setattr(trainer, "Interruption", lambda: StopAt(step))
    with pytest.raises(Interrupted):
        trainer.train(load_config(recipe), tmp_path / "stopped")
    monkeypatch.undo()
    trainer.resume(tmp_path / "stopped")
    whole, parts = state(folder), state(tmp_path / "stopped")
    assert whole.keys() == parts.keys()
    for key, value in whole.items():
        assert torch.equal(parts[key], value), key


def test_options_of_the_trainer_apply(recipe, finished, tmp_path):
    folder, _ = finished
    changes = [
        "training.epochs=1", "training.precision=bf16-mixed", ACCUMULATE,
        "training.ema=0.5",
        f"init_from={folder}", "distillation={weight: 0.5}",
        "search={candidates: 3, batches: 1, recalibrate: true, importance: taylor}",
        "sparsity.importance_weight=0.3", "sparsity.schedule=constant",
        "sparsity.begin=0", "sparsity.end=0",
    ]  # fmt: skip
    summary = trainer.train(load_config(recipe, changes), tmp_path / "run")
    assert summary["dense"]["map50"] is not None
    start, end = load_run(folder).model, load_run(tmp_path / "run").model
    assert torch.equal(start.head.anchors, end.head.anchors)
    average = state(tmp_path / "run")["average.module.stem.conv.weight"]
    assert torch.equal(average, end.stem.conv.weight)


@pytest.mark.slow
def test_two_processes_and_accumulated_batches_train_as_one(recipe, finished, tmp_path):
    # A mean over the boxes of half a batch is not half of that over all: steps are near, not equal.
    folder, _ = finished
    changes = [f"init_from={folder}", "training.freeze_norms=true", "training.schedule=constant"]
    changes += ["training.optimizer=sgd", "training.lr=1e-4", "training.gradient_clip=null"]
    changes += ["sparsity.schedule=constant", "sparsity.begin=0", "sparsity.end=0"]
    ways = {"one": (1, []), "two": (2, []), "parts": (1, ["data.batch_size=2", ACCUMULATE])}
    for name, (processes, more) in ways.items():
        command = ["-m", "activsparse", "train", "--recipe", recipe, "--out", str(tmp_path / name)]
        done = run(*command, "--set", *changes, *more, processes=processes)
        assert done.returncode == 0, done.stderr[-2000:]
    start, (one, *others) = state(folder), [state(tmp_path / name) for name in ways]
    weights = [key for key, value in one.items() if key.endswith("conv.weight")]
    moved = torch.cat([(one[key] - start[key]).flatten() for key in weights])
    for other in others:
        assert one.keys() == other.keys()
        for key, value in one.items():
            if "activation_mask" in key:
                assert torch.equal(other[key], value), key
        step = torch.cat([(other[key] - start[key]).flatten() for key in weights])
        assert 0.8 < float(step.norm() / moved.norm()) < 1.25
        assert float(torch.nn.functional.cosine_similarity(step, moved, 0)) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("name", ["voc", "coco"])
def test_annotated_pictures_are_trained_on(name, recipe, tmp_path):
    trees.WRITERS[name](tmp_path, Scenes(6, source="digits"))
    changes = [f"data.name={name}", f"data.root={tmp_path}", "data.options={mosaic: 1.0}"]
    changes += ["training.epochs=1", "data.batch_size=2"]
    summary = trainer.train(load_config(recipe, changes), tmp_path / "run")
    assert {"map50", "map"} <= set(summary)
    head = load_run(tmp_path / "run").model.head
    assert head.numbers - 5 == {"voc": 20, "coco": 10}[name]


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        (["model.name=small_resnet"], "is no detector"),
        (["data.name=digits", "data.options={}"], "is a detector"),
        (["data.image_size=70"], "multiples of 32"),
        (["data.options={colour: 1}"], "colour"),
        (["data.random_erasing=0.1"], "random_erasing"),
    ],
)
def test_mistakes_are_named(changes, cause, recipe, tmp_path):
    with pytest.raises(ActivsparseError, match=cause):
        trainer.train(load_config(recipe, changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_detect_draws_what_it_finds(finished, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = str(tmp_path / "detector.onnx")
    assert main(["export", str(finished[0]), "--out", model]) == 0
    assert main(["verify", model]) == 0
    sample = Scenes(1, "test", source="digits")[0]
    picture = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
    picture.save(tmp_path / "scene.png")
    out = tmp_path / "drawn"
    command = ["detect", model, str(tmp_path / "scene.png")]
    assert main([*command, "--out", str(out), "--score", "0.0001"]) == 0
    assert "object(s)" in capsys.readouterr().out
    drawn = Image.open(out / "scene.png")
    assert drawn.size == picture.size
    assert drawn.tobytes() != picture.tobytes()
    report = tmp_path / "report.html"
    assert main([*command, "--dense", model, "--report", str(report)]) == 0
    assert report.read_text().count("data:image/png;base64,") == 2
    assert main([*command, "--report", str(report)]) == 2
    capsys.readouterr()
    (tmp_path / "text.png").write_text("no picture")
    assert main(["detect", model, str(tmp_path / "text.png"), "--out", "none"]) == 2
    assert "not a picture" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()
