"""Tiny real trainings: the digits at 16x16 with a network of four blocks' width."""

from __future__ import annotations

import csv
import io
import json
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
import yaml
from rich.console import Console
from runs import StopAt
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from activsparse import ActivsparseError
from activsparse.cli import main
from activsparse.train import load_run, trainer
from activsparse.train.recipes.read import load_config
from activsparse.train.run.interrupt import Interrupted, Interruption
from activsparse.train.tasks.classification import Classifier

TINY = """
extends: digits_demo
model: {options: {widths: [8, 16, 32], blocks: [1, 1, 1]}}
data: {image_size: 16, batch_size: 64}
dense: {epochs: 4, lr: 0.2}
training: {epochs: 3, lr: 0.1}
"""
PAPER = [
    "sparsity.pattern=random",
    "sparsity.schedule=polynomial",
    "sparsity.site=conv",
    "sparsity.skip_stem=false",
    "sparsity.end=0.5",
]


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(TINY)
    return str(file)


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    return folder, trainer.train(load_config(recipe, PAPER), folder)


def test_a_run_ends_sparse_and_accurate(finished):
    folder, summary = finished
    assert summary["top1"] > 0.8
    assert summary["dense"]["top1"] > 0.8
    assert summary == json.loads((folder / "summary.json").read_text())
    for layer in summary["layers"]:
        positions = layer["shape"][0] * layer["shape"][1]
        assert layer["achieved"] == pytest.approx(round(0.3 * positions) / positions)
    assert summary["achieved"] == pytest.approx(0.3, abs=0.01)
    assert 0.65 < summary["kept_macs"] < 0.75
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["frozen"] for row in rows] == ["0", "1", "1"]


def test_a_run_is_read_back_without_its_data(finished, monkeypatch):
    folder, summary = finished
    run = load_run(folder)
    assert not run.model.training
    assert run.sparsifier.frozen
    assert run.example_input.shape == (1, 1, 16, 16)
    assert [layer.achieved for layer in run.sparsifier.layers] == [
        layer["achieved"] for layer in summary["layers"]
    ]
    dense = load_run(folder / "dense")
    assert dense.sparsifier is None
    assert not any("activation_mask" in key for key in dense.model.state_dict())
    assert load_run(folder, "last").config == run.config


def metrics(folder):
    with (folder / "metrics.csv").open() as file:
        return [{k: v for k, v in row.items() if k != "seconds"} for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    "stop",
    [36, 126, pytest.param(9, marks=pytest.mark.slow), pytest.param(101, marks=pytest.mark.slow)],
)
def test_a_stopped_and_resumed_run_is_bit_equal(finished, recipe, tmp_path, monkeypatch, stop):
    """Within and at the end of epochs of 18 steps, in the dense phase (72 steps) and after it."""
    whole, summary = finished
    monkeypatch.setattr(trainer, "Interruption", lambda: StopAt(stop))
    with pytest.raises(Interrupted):
        trainer.train(load_config(recipe, PAPER), tmp_path / "run")
    monkeypatch.setattr(trainer, "Interruption", Interruption)
    resumed = trainer.resume(tmp_path / "run")
    for part in ("dense", "."):
        expected = torch.load(whole / part / "last.ckpt", weights_only=True)
        found = torch.load(tmp_path / "run" / part / "last.ckpt", weights_only=True)
        assert found["global_step"] == expected["global_step"]
        assert found["state_dict"].keys() == expected["state_dict"].keys()
        for key, value in expected["state_dict"].items():
            assert torch.equal(found["state_dict"][key], value), f"{part} {key}"
        rows, expected_rows = (metrics(run / part) for run in (tmp_path / "run", whole))
        assert rows == expected_rows, "means over whole epochs"
    assert resumed["top1"] == summary["top1"]
    assert trainer.resume(tmp_path / "run") == resumed, "a finished run stays as it is"


def test_starting_from_an_earlier_run(finished, recipe, tmp_path):
    folder, summary = finished
    overrides = [f"init_from={folder / 'dense'}", "training.epochs=1", "training.accumulate=2"]
    result = trainer.train(load_config(recipe, overrides), tmp_path / "tiles")
    assert result["dense"] == summary["dense"]
    assert not (tmp_path / "tiles" / "dense").exists()
    assert result["top1"] > 0.5
    with pytest.raises(ActivsparseError, match="holds a run already"):
        trainer.train(load_config(recipe, overrides), tmp_path / "tiles")


def test_runs_do_not_become_images(recipe, tmp_path):
    changes = ["data.name=image_folder", f"data.root={tmp_path}", "data.options={}"]
    with pytest.raises(ActivsparseError, match="lies within the images"):
        trainer.train(load_config(recipe, changes), tmp_path / "runs" / ".." / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_loss_that_is_not_finite_stops_with_the_step(recipe, tmp_path):
    overrides = ["dense=null", "training.lr=1e30", "training.gradient_clip=null"]
    with pytest.raises(ActivsparseError, match=r"step \d: the loss is not finite.*no checkpoint"):
        trainer.train(load_config(recipe, overrides), tmp_path / "run")


def test_a_run_that_diverges_names_the_last_good_checkpoint(recipe, tmp_path, monkeypatch):
    """The loss of the third epoch's fifth step."""
    seen = []

    def training_step(self, batch, batch_idx):
        seen.append(original(self, batch, batch_idx))
        return seen[-1] * (float("nan") if len(seen) == 2 * 18 + 5 else 1)

    original = Classifier.training_step
    monkeypatch.setattr(Classifier, "training_step", training_step)
    config = load_config(recipe, ["dense=null", "training.save_every=8"])
    with pytest.raises(ActivsparseError, match="step 40: the loss is not finite") as caught:
        trainer.train(config, tmp_path / "run")
    last = tmp_path / "run" / "last.ckpt"
    assert f"the last good checkpoint is {last}, of step 40" in str(caught.value)
    state = torch.load(last, weights_only=True)["state_dict"]
    assert all(value.isfinite().all() for key, value in state.items() if "best_loss" not in key)
    restart = load_config(recipe, [f"init_from={last}", "training.lr=0.01", "training.epochs=1"])
    monkeypatch.undo()
    assert trainer.train(restart, tmp_path / "again")["top1"] > 0.3


def test_a_folder_of_another_recipe_is_refused(finished, recipe, tmp_path):
    folder, summary = finished
    assert trainer.resume(folder, load_config(recipe, [*PAPER, "threads=2"])) == summary
    with pytest.raises(ActivsparseError, match=r"another recipe.*pattern is random there, tiles"):
        trainer.resume(folder, load_config(recipe))
    shutil.copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    config = (folder / "config.yaml").read_text()
    (tmp_path / "run" / "config.yaml").write_text(config.replace("lr: 0.1", "lr: 0.3"))
    with pytest.raises(ActivsparseError, match=r"last.ckpt: is of another.*lr is 0.1 there, 0.3"):
        trainer.resume(tmp_path / "run")


EVERYTHING = [
    *("training.accumulate=3", "training.mixup=0.2", "training.cutmix=1.0", "training.epochs=2"),
    *("training.precision=bf16-mixed", "training.save_every=4", "data.auto_augment=trivial"),
    *("data.random_erasing=0.3", "distillation.weight=2", "dense.epochs=1", "tensorboard=true"),
    *("dense.accumulate=1", "sparsity.end=0.8"),
]


def test_a_run_that_crashed_continues_from_its_last_checkpoint(recipe, tmp_path, monkeypatch):
    """With all that draws random numbers; 18 dense steps, then twice 6 of three batches each."""
    config = load_config(recipe, [*PAPER, *EVERYTHING])
    trainer.train(config, tmp_path / "whole")

    class Crash(StopAt):
        @property
        def requested(self) -> bool:
            if super().requested:
                raise RuntimeError("power failure")
            return False

    # Steps ask once, ends of epochs once more: 19 times, then in the fifth step.
    monkeypatch.setattr(trainer, "Interruption", lambda: Crash(19 + 5))
    with pytest.raises(RuntimeError, match="power failure"):
        trainer.train(config, tmp_path / "run")
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["global_step"] == 4
    monkeypatch.setattr(trainer, "Interruption", Interruption)
    trainer.resume(tmp_path / "run", config)
    expected, found = (
        torch.load(tmp_path / name / "last.ckpt", weights_only=True)["state_dict"]
        for name in ("whole", "run")
    )
    for key, value in expected.items():
        assert torch.equal(found[key], value), key
    events = EventAccumulator(str(tmp_path / "whole" / "tensorboard")).Reload()
    assert [e.step for e in events.Scalars("epoch/sparsity")] == [6, 12]
    assert [e.step for e in events.Scalars("step/loss")] == [10]


def test_accumulated_batches_equal_a_larger_one(recipe, tmp_path):
    """1212 training images: 6 steps of 202, or of 101 and 101; frozen norms see no batch."""
    states = []
    for size, count in ((202, 1), (101, 2)):
        overrides = [
            *("dense=null", f"data.batch_size={size}", f"training.accumulate={count}"),
            *("training.freeze_norms=true", "training.epochs=1", "training.optimizer=sgd"),
        ]
        trainer.train(load_config(recipe, [*overrides, *PAPER]), tmp_path / str(size))
        content = torch.load(tmp_path / str(size) / "last.ckpt", weights_only=True)
        assert content["global_step"] == 6
        states.append(content["state_dict"])
    for key, value in states[0].items():
        torch.testing.assert_close(states[1][key], value, rtol=1e-4, atol=1e-5)
        if "running_" in key:
            assert torch.equal(value, torch.full_like(value, float("var" in key))), key


def test_gradients_are_clipped(finished, recipe, tmp_path):
    """18 steps of plain descent, each at most lr * clip long."""
    folder, _ = finished
    overrides = [
        *(f"init_from={folder / 'dense'}", "training.epochs=1", "training.schedule=constant"),
        *("training.lr=1", "training.momentum=0", "training.weight_decay=0"),
        "training.gradient_clip=0.001",
    ]
    screen = io.StringIO()
    console = Console(file=screen, force_terminal=True, width=160)
    trainer.train(load_config(recipe, overrides), tmp_path / "run", console=console)
    assert "epoch 1/1" in screen.getvalue(), "the progress bar"
    assert "frozen 0.3" in screen.getvalue()
    before = dict(load_run(folder / "dense").model.named_parameters())
    after = dict(load_run(tmp_path / "run", "last").model.named_parameters())
    moved = torch.cat([(after[k] - v).flatten() for k, v in before.items()]).norm()
    assert 0.001 < moved <= 18 * 0.001 * (1 + 1e-3)


def test_folders_without_a_run_are_named(tmp_path):
    with pytest.raises(ActivsparseError, match="is no run folder"):
        load_run(tmp_path)
    with pytest.raises(ActivsparseError, match="is no run folder"):
        trainer.resume(tmp_path)
    with pytest.raises(ActivsparseError, match="absent: no such folder"):
        load_run(tmp_path / "absent")
    (tmp_path / "masked").mkdir()
    (tmp_path / "masked" / "config.yaml").touch()
    with pytest.raises(ActivsparseError, match=r"name the run \S+masked$"):  # as of sparsify
        load_run(tmp_path)


def test_damaged_checkpoints_are_named(finished, tmp_path):
    folder, _ = finished
    config = (folder / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(config)
    with pytest.raises(ActivsparseError, match="no such checkpoint; finish the run"):
        load_run(tmp_path)
    whole = (folder / "best.ckpt").read_bytes()
    (tmp_path / "best.ckpt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ActivsparseError, match="is not a checkpoint of activsparse train"):
        load_run(tmp_path)
    (tmp_path / "best.ckpt").write_bytes(whole)
    (tmp_path / "config.yaml").write_text(config.replace("fill: zero", "fill: nearest"))
    with pytest.raises(ActivsparseError, match="does not fit"):
        load_run(tmp_path)


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "activsparse", "train", *arguments],
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def test_command_line_prints_the_config(recipe):
    result = command("--recipe", recipe, "--set", "training.lr=0.5", "--print-config")
    assert result.returncode == 0, result.stderr
    values = yaml.safe_load(result.stdout)
    assert values["training"]["lr"] == 0.5
    assert values["sparsity"]["pattern"] == "tiles"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "name a --recipe (digits_demo"),
        (["--recipe", "digits_dmo"], "did you mean digits_demo"),
        (["--out", "y", "--resume", "x"], "leave out --set, --target-speedup, --plan, --out and"),
        (["--recipe", "digits_demo", "--resume", "/nowhere"], "/nowhere: no such folder"),
        (["--resume", "/nowhere"], "/nowhere: no such folder"),
    ],
)
def test_command_line_errors_are_one_line(arguments, message, capsys):
    assert main(["train", *arguments]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_command_says_how_to_resume(recipe, tmp_path, number):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "activsparse", "train", "--recipe", recipe, "--out", str(out)),
            *("--set", "dense=null", "training.epochs=500"),
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (out / "last.ckpt").exists() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert f"activsparse train --resume {out}" in errors
    assert "Warning" not in errors
    assert all(
        line.startswith(("epoch ", "stopping ", "stopped;")) for line in errors.splitlines()
    ), errors
    assert not list(out.glob(".*")), "no temporary file is left"
    load_run(out, "last")


STRANGE = """
from torch import nn
def maps(num_classes, in_channels):
    return nn.Conv2d(in_channels, num_classes, 3, padding=1)
class pair(nn.Module):
    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, num_classes, 3)
    def forward(self, x):
        return self.conv(x).mean((2, 3)), x
def large(num_classes, in_channels):
    return nn.Sequential(nn.Conv2d(in_channels, num_classes, 31), nn.Flatten())
"""


def test_mistakes_show_before_a_folder_is_made_or_a_dense_phase_run(recipe, tmp_path, monkeypatch):
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    (tmp_path / "strange.py").write_text(STRANGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    for override, message in [
        ("sparsity.skip=[layer*]", "matches no convolution"),
        (f"init_from={tmp_path / 'none.ckpt'}", "no such file"),
        ("device=mps", "device mps: torch finds none on this machine; set device to auto"),
        ("model.weights=default", "no published weights"),
        ("model={name: 'torch.nn:Linear', options: {}}", "cannot be built"),
        ("model={name: 'torch.nn:Flatten', options: {}}", r"gives \(1, 256\) for one image"),
        ("model={name: 'strange:maps', options: {}}", r"gives \(1, 10, 16, 16\) for one image"),
        ("model={name: 'strange:pair', options: {}}", "gives a tuple for one image, not logits"),
        ("model={name: 'strange:large', options: {}}", r"not run on images of shape \(1, 16"),
    ]:
        with pytest.raises(ActivsparseError, match=message):
            trainer.train(load_config(recipe, [override]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
