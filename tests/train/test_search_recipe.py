"""The search beyond the paper as a recipe asks for it: at its moment, once, resumable."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from runs import TINY, StopAt, make_run

from activsparse import ActivsparseError
from activsparse.cli import main
from activsparse.masks.latency import dense_ms
from activsparse.masks.maker import CANDIDATES
from activsparse.masks.mask_plan_file import plan_of, read_mask_plan
from activsparse.models import build_model
from activsparse.train import load_run, trainer
from activsparse.train.callbacks import search as search_callback
from activsparse.train.recipes.read import load_config, read_config
from activsparse.train.run.interrupt import Interrupted, Interruption
from activsparse.train.sparsify.layers import find_layers

SEARCH = (*TINY, "search.candidates=4", "search.recalibrate=true", "search.batches=1")
RANDOM = (
    "sparsity.pattern=random",
    "sparsity.schedule=polynomial",
    "sparsity.begin=0.1",
    "sparsity.end=0.5",
    "sparsity.importance_weight=0.5",
    "search.importance=taylor",
)


EXAMPLE = torch.zeros(1, 1, 16, 16)


def make_small():
    return build_model("small_resnet", 10, in_channels=1, widths=[8, 16], blocks=[1, 1])


def _state(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


@pytest.mark.parametrize("step", [3, 30])
def test_a_searched_run_resumes_bit_equal(tmp_path, monkeypatch, step):
    """Stopped before the search, when importance is measured, and after it."""
    config = load_config("digits_demo", [*SEARCH, *RANDOM])
    trainer.train(config, tmp_path / "whole")
    state = _state(tmp_path / "whole")
    best = load_run(tmp_path / "whole", "last").sparsifier.source_step
    assert best < CANDIDATES + 4
    assert state["model.sparsifier_state.importance"].any()

    monkeypatch.setattr(trainer, "Interruption", lambda: StopAt(step))
    with pytest.raises(Interrupted):
        trainer.train(config, tmp_path / "run")
    monkeypatch.setattr(trainer, "Interruption", Interruption)
    calls: list[int] = []
    choose = search_callback.search_masks
    monkeypatch.setattr(
        search_callback, "search_masks", lambda *args: calls.append(1) or choose(*args)
    )
    trainer.resume(tmp_path / "run")
    assert len(calls) == (1 if step == 3 else 0)
    for key, value in _state(tmp_path / "run").items():
        assert torch.equal(value, state[key]), key
    assert load_run(tmp_path / "run").sparsifier.frozen


def test_phases_are_searched_where_masks_are_fixed_from_the_start(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    config = load_config("digits_search", [*SEARCH, "search.target_speedup=null"])
    summary = trainer.train(config, tmp_path / "run")
    assert summary["achieved"] == pytest.approx(0.33, abs=0.02)
    assert "of 4, loss" in caplog.text


def test_a_target_speedup_becomes_a_mask_plan(tmp_path):
    make_run(tmp_path / "dense", "sparsity=null")
    out = tmp_path / "run"
    start = ["--set", *TINY, f"init_from={tmp_path / 'dense'}", "sparsity.pattern=lattice"]
    start += ["search.batches=1"]
    train = ["train", "--recipe", "digits_demo", "--out", str(out)]
    assert main([*train, "--target-speedup", "1.08", *start]) == 0
    config = read_config(out / "config.yaml")
    assert config.search.target_speedup is None
    plan = read_mask_plan(out / "plan.yaml")
    assert plan_of(config.sparsity.plan, "config") == plan
    assert plan.notes["speedup"] >= 1.08
    assert {layer.exact.pattern for layer in plan.masked().values()} == {"lattice"}
    run = load_run(out)
    # Chosen equals achieved.
    masks = run.sparsifier.masks()
    assert masks.keys() == plan.masked().keys()
    for name, mask in plan.masks().items():
        np.testing.assert_array_equal(mask, masks[name])
    run.sparsifier.detach()
    layers = find_layers(run.model, run.example_input)
    dense = sum(dense_ms(layer.shape) for layer in layers)
    planned = sum(layer.ms for layer in plan.layers.values())
    rest = sum(dense_ms(layer.shape) for layer in layers if layer.name not in plan.layers)
    assert dense / (planned + rest) == pytest.approx(plan.notes["speedup"], rel=1e-3)
    again = ["--recipe", "digits_demo", "--target-speedup", "1.08", *start]
    assert main(["train", "--resume", str(out), *again]) == 0


def test_a_sparsity_is_spread_over_layers(tmp_path):
    make_run(tmp_path / "dense", "sparsity=null")
    changes = ["sparsity.pattern=lattice", "sparsity.sparsity=0.5", "search.spread=true"]
    changes += ["search.batches=1", f"init_from={tmp_path / 'dense'}"]
    config = load_config("digits_demo", [*TINY, *changes])
    summary = trainer.train(config, tmp_path / "run")
    written = read_config(tmp_path / "run" / "config.yaml")
    assert not written.search.spread
    assert len(written.sparsity.plan["layers"]) == 4
    assert summary["requested"] == 0.5
    # The run has filled in what the recipe leaves open; it is a run of that recipe all the same.
    assert trainer.resume(tmp_path / "run", config) == summary
    other = config.model_copy(update={"seed": 1})
    with pytest.raises(ActivsparseError, match="seed is 0 there, 1 here"):
        trainer.resume(tmp_path / "run", other)
    whole = {layer.name: layer.macs for layer in find_layers(make_small(), EXAMPLE)}
    wanted = set(written.sparsity.plan["layers"])
    skipped = sum(layer["macs"] * layer["achieved"] for layer in summary["layers"])
    assert skipped >= 0.5 * sum(macs for name, macs in whole.items() if name in wanted) - 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["search.importance=taylor"], "importance needs both"),
        (["sparsity.importance_weight=0.5", "sparsity.pattern=random"], "importance needs both"),
        (["search.target_speedup=1.2"], "add a dense phase"),
        (["search.target_speedup=1.2", "init_from=weights.pt"], "not a file"),
        (["search.target_speedup=1.2", "sparsity.per_layer={'stages*': 0.2}"], "leave one of them"),
        (["search.target_speedup=1.2", "sparsity.plan={}"], "add a dense phase"),
        (["search.spread=true", "sparsity.plan={mask_plan: 1}"], "leave one of them"),
        (["sparsity.plan={mask_plan: 1}"], "sparsity.plan: site"),
        (["sparsity.plan=nowhere.yaml"], "no such file"),
        (["search.target_speedup=0.9"], "greater than 1"),
        (["search.spread=true"], "search.spread measures a trained network"),
        (["search.spread=true", "search.target_speedup=1.2"], "leave one out"),
        (["search.candidate=4"], "candidates"),
    ],
)
def test_contradictions_show_before_training(tmp_path, changes, words):
    with pytest.raises(ActivsparseError, match=words):
        trainer.train(load_config("digits_demo", [*TINY, *changes]), tmp_path / "run")
    assert not (tmp_path / "run").exists()
