"""Averaged weights (`training.ema`): what they are, that they are kept, and that they resume."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runs import StopAt
from torch.nn.functional import cross_entropy

from activsparse import ActivsparseError
from activsparse.data import build_data
from activsparse.export.onnx import convert
from activsparse.models import build_model, load_weights
from activsparse.train import load_run, phase, trainer
from activsparse.train.callbacks.averaging import Averaging
from activsparse.train.recipes.read import load_config
from activsparse.train.run.interrupt import Interrupted, Interruption

RECIPE = """
extends: digits_demo
model: {options: {widths: [8, 16, 32], blocks: [1, 1, 1]}}
data: {image_size: 16, batch_size: 50}
dense: null
training: {epochs: 4, lr: 0.15, ema: 0.7}
sparsity: {pattern: random, fill: nearest, schedule: polynomial, begin: 0.1, end: 0.6}
search: {candidates: 3, batches: 1}
"""
STEPS = 96
EPS = float(np.finfo(np.float32).eps)


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    file = tmp_path_factory.mktemp("recipe") / "tiny.yaml"
    file.write_text(RECIPE)
    return str(file)


@pytest.fixture(scope="module")
def finished(recipe, tmp_path_factory):
    """A run, and the network's state after each of its steps."""
    states = []

    class Noting(Averaging):
        def on_train_batch_end(self, *args):
            super().on_train_batch_end(*args)
            states.append({k: v.clone() for k, v in self.network.state_dict().items()})

    folder = tmp_path_factory.mktemp("runs") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(phase, "Averaging", Noting)
        summary = trainer.train(load_config(recipe), folder)
    return folder, summary, states


def checkpoint(folder, name="last"):
    return torch.load(folder / f"{name}.ckpt", weights_only=True)["state_dict"]


def test_the_average_is_what_the_formula_says(finished):
    folder, _, states = finished
    assert len(states) == STEPS
    found = checkpoint(folder)
    assert int(found["average.n_averaged"]) == STEPS
    for key, value in states[-1].items():
        last = found[f"average.module.{key}"]
        if "activation_" in key or "sparsifier_state" in key or not value.is_floating_point():
            assert torch.equal(last, value), key
            continue
        average = states[0][key].double().numpy()
        largest = np.abs(average)
        for updates, state in enumerate(states[1:], 1):
            decay = min(0.7, (1 + updates) / (10 + updates))
            step = state[key].double().numpy()
            average = decay * average + (1 - decay) * step
            largest = np.maximum(largest, np.abs(step))
        # Each update rounds a few times, and forgets what was rounded before by its decay.
        bound = 4 * EPS / (1 - 0.7) * largest + 1e-30
        np.testing.assert_array_less(np.abs(last.double().numpy() - average), bound + 1e-30, key)


def test_the_average_is_what_is_measured_kept_and_exported(finished, recipe):
    folder, summary, _ = finished
    run = load_run(folder)
    best = checkpoint(folder, "best")
    for key, value in run.model.state_dict().items():
        assert torch.equal(value, best[f"average.module.{key}"]), key
    assert not torch.equal(run.model.conv1.weight, best["model.conv1.weight"])
    assert run.sparsifier.frozen
    assert run.sparsifier.achieved_sparsity == pytest.approx(0.3, abs=0.01)

    data = build_data(**load_config(recipe).data.model_dump(), seed=0)
    right = count = 0
    with torch.no_grad():
        for images, labels in data.test_dataloader():
            right += int((run.model(images).argmax(1) == labels).sum())
            count += len(labels)
    assert summary["top1"] == pytest.approx(right / count)
    assert summary["top1"] > 0.7
    exported = convert(run.model, run.example_input)
    assert len(exported.masks) == len(run.sparsifier.layers)

    other = build_model("small_resnet", 10, in_channels=1, widths=[8, 16, 32], blocks=[1, 1, 1])
    load_weights(other, folder / "best.ckpt")
    assert torch.equal(other.conv1.weight, run.model.conv1.weight)


def test_running_statistics_fit_the_averaged_weights(finished, recipe):
    """Evaluated with them the network loses hardly more than with each batch's own statistics."""
    folder, _, _ = finished
    model = load_run(folder).model
    data = build_data(**load_config(recipe).data.model_dump(), seed=0)
    losses = []
    with torch.no_grad():
        images, labels = next(iter(data.val_dataloader()))
        for training in (False, True):
            model.train(training)
            losses.append(float(cross_entropy(model(images), labels)))
    assert losses[0] < losses[1] + 0.1, losses


@pytest.mark.parametrize("stop", [5, 70, pytest.param(24, marks=pytest.mark.slow)])
def test_a_stopped_run_continues_bit_equal(stop, finished, recipe, tmp_path, monkeypatch):
    """While masks move, with masks frozen, and at the end of an epoch."""
    folder, summary, _ = finished
    monkeypatch.setattr(trainer, "Interruption", lambda: StopAt(stop))
    with pytest.raises(Interrupted):
        trainer.train(load_config(recipe), tmp_path / "run")
    monkeypatch.setattr(trainer, "Interruption", Interruption)
    assert trainer.resume(tmp_path / "run")["top1"] == summary["top1"]
    for name in ("last", "best"):
        whole, parts = checkpoint(folder, name), checkpoint(tmp_path / "run", name)
        assert whole.keys() == parts.keys()
        for key, value in whole.items():
            assert torch.equal(parts[key], value), f"{name} {key}"


def test_statistics_of_the_average_are_renewed_as_well(recipe, tmp_path):
    """Frozen norms keep their statistics, so only recalibration changes them."""
    changes = ["training.freeze_norms=true", "search.recalibrate=true", "training.epochs=1"]
    changes += ["sparsity.begin=0", "sparsity.end=0", "sparsity.schedule=constant"]
    trainer.train(load_config(recipe, changes), tmp_path / "run")
    state = checkpoint(tmp_path / "run")
    for key, value in state.items():
        if key.startswith("average.module.") and key.endswith("running_mean"):
            assert value.any(), key
            twin = state[key.replace("average.module.", "model.")]
            torch.testing.assert_close(value, twin, rtol=8 * EPS, atol=8 * EPS)


@pytest.mark.parametrize("decay", ["0", "1", "x"])
def test_a_decay_out_of_range_is_named(recipe, decay):
    with pytest.raises(ActivsparseError, match=r"training.ema: should be"):
        load_config(recipe, [f"training.ema={decay}"])
