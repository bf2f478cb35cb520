"""`activsparse plan` from a run to a trained network and a masked file with its very masks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runs import TINY, make_run

from activsparse import ActivsparseError, _native
from activsparse.cli import main
from activsparse.data import build_data
from activsparse.export.onnx import export_onnx
from activsparse.export.read import read_masks
from activsparse.masks.mask_plan_file import read_mask_plan
from activsparse.train import load_run
from activsparse.train.sparsify.layers import find_layers

ISA = _native.available_isas()[-1]
FEW = ("--images", "32", "--masks", "2", "--rounds", "1", "--isa", ISA)


class OutOfReachError(ActivsparseError):
    """What masks cannot do."""


def network(folder, size=None):
    found = load_run(folder)
    x = found.example_input
    return found.model, x if size is None else x[..., : size[0], : size[1]]


def independent_loss(trained):
    """Mean over all held-out images, one by one."""
    data = build_data(**trained.config.data.model_dump(), seed=trained.config.seed)
    losses = []
    with torch.no_grad():
        for images, labels in data.val_dataloader():
            logits = trained.model(images).log_softmax(1)
            losses += (-logits[range(len(labels)), labels]).tolist()
    return sum(losses) / len(losses)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.setenv("ACTIVSPARSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    make_run(tmp_path / "run", "sparsity=null")
    return tmp_path


def test_a_plan_reaches_training_and_files_bit_for_bit(run, capsys):
    command = ["plan", "run", "--target-speedup", "1.1", "--out", "plan.yaml", *FEW, "--estimate"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    assert "stages.1.0.conv2" in shown
    assert "estimated from those of another machine" in shown or "such a machine" in shown
    plan = read_mask_plan("plan.yaml")
    assert plan.notes["speedup"] >= 1.1
    assert (run / "plan.png").read_bytes()[:4] == b"\x89PNG"
    lines = (run / "plan.losses.csv").read_text()

    # Again: nothing is measured anew.
    before = plan
    assert main(command) == 0
    assert (run / "plan.losses.csv").read_text() == lines
    assert read_mask_plan("plan.yaml") == before
    capsys.readouterr()

    trained = load_run(run / "run")
    export_onnx(trained.model, trained.example_input, "dense.onnx")
    assert main(["mask", "dense.onnx", "--plan", "plan.yaml", "--out", "masked.onnx"]) == 0
    assert "Dense, mask plan" in capsys.readouterr().out
    start = ["--set", *TINY, "init_from=run", "search.candidates=0"]
    recipe = ["train", "--recipe", "digits_demo", "--out", "sparse"]
    assert main([*recipe, "--plan", "plan.yaml", *start]) == 0
    assert main(["export", "sparse", "--out", "sparse.onnx"]) == 0
    achieved = load_run(run / "sparse").sparsifier.masks()
    for masks in (achieved, read_masks("masked.onnx"), read_masks("sparse.onnx")):
        assert masks.keys() == plan.masked().keys()
        for name, mask in plan.masks().items():
            np.testing.assert_array_equal(masks[name], mask, err_msg=name)


def test_the_frontier_in_one_go(run, capsys):
    command = ["plan", "run", "--frontier", "--out", "f.yaml", *FEW, "--estimate", "--rounds", "0"]
    assert main([*command, "--plot", "f.svg"]) == 0
    shown = capsys.readouterr().out
    assert "times as fast" in shown
    plans = [read_mask_plan(path).notes for path in run.glob("f-*.yaml")]
    assert plans
    assert all(notes["speedup"] >= notes["target_speedup"] for notes in plans)
    plans.sort(key=lambda notes: notes["target_speedup"])
    speeds = [notes["speedup"] for notes in plans]
    assert speeds == sorted(speeds)
    assert (run / "f.svg").read_text().count("<svg") == 1
    assert len(list(run.glob("f-*.svg"))) == len(plans)


def test_several_targets_in_one_go(run, capsys):
    command = ["plan", "run", "--target-speedup", "1.1,1.2,9", "--out", "f.yaml", *FEW]
    assert main([*command, "--estimate", "--rounds", "0"]) == 0
    assert "out of reach" in capsys.readouterr().out
    assert sorted(path.name for path in run.glob("f-*.yaml")) == ["f-1.1.yaml", "f-1.2.yaml"]
    for target in (1.1, 1.2):
        assert read_mask_plan(f"f-{target}.yaml").notes["speedup"] >= target


def test_a_smaller_input_may_be_part_of_a_plan(run, capsys):
    command = ["plan", "run", "--target-speedup", "1.2", "--out", "p.yaml", *FEW, "--estimate"]
    assert main([*command, "--allow", "input-size"]) == 0
    plan = read_mask_plan("p.yaml")
    assert plan.input_size in ((16, 16), (8, 8))
    assert plan.notes["speedup"] >= 1.2
    assert "input " in capsys.readouterr().out


@pytest.mark.parametrize("loses", [False, True])
def test_fewer_channels_may_be_part_of_a_plan(run, monkeypatch, capsys, loses):
    pytest.importorskip("torch_pruning")
    from activsparse.cli import plan_variants

    monkeypatch.setattr(plan_variants, "RATIOS", (0.4,))
    if loses:  # whatever is masked, so that only channels are left
        monkeypatch.setattr(
            plan_variants.NetworkPlanner,
            "find",
            lambda *a, **k: (_ for _ in ()).throw(OutOfReachError),
        )
    make_run(run / "wide", "sparsity=null", "model.options={'widths': [32, 32], 'blocks': [1, 1]}")
    command = ["plan", "wide", "--target-speedup", "1.2", "--out", "p.yaml", *FEW, "--estimate"]
    assert main([*command, "--allow", "channels", "--rounds", "0"]) == 0
    shown = capsys.readouterr().out
    plan = read_mask_plan("p.yaml")
    assert plan.notes["speedup"] >= 1.2
    assert (run / "p-pruned").exists() == ("p-pruned" in shown)
    if loses:
        layers = {x.name: x.shape for x in find_layers(*network(run / "p-pruned"))}
        assert all(layers[name] == layer.conv for name, layer in plan.layers.items())
        assert plan.notes["speedup_is"] == "without masks"


def test_a_smaller_input_and_fewer_channels_go_together(run, monkeypatch):
    """No masks reach the target, and of the variants only what is both."""
    pytest.importorskip("torch_pruning")
    from activsparse.cli import plan_variants

    monkeypatch.setattr(plan_variants, "RATIOS", (0.4,))
    monkeypatch.setattr(plan_variants, "SIZES", (0.5,))
    seen = []

    def faster(self, variant):
        seen.append((variant.size, variant.ratio))
        return 9.0 if variant.ratio and variant.size < (16, 16) else 1.5

    def find(planner, target, measure, args):
        if target > 1:
            raise OutOfReachError
        return planner.without_masks()

    monkeypatch.setattr(plan_variants._Timing, "faster", faster)
    monkeypatch.setattr(plan_variants, "_find", find)
    make_run(run / "wide", "sparsity=null", "model.options={'widths': [32, 32], 'blocks': [1, 1]}")
    command = ["plan", "wide", "--target-speedup", "8.5", "--out", "p.yaml", *FEW, "--estimate"]
    assert main([*command, "--allow", "input-size,channels", "--rounds", "0"]) == 0
    assert seen == [((8, 8), 0.0), ((16, 16), 0.4), ((8, 8), 0.4)]
    plan = read_mask_plan("p.yaml")
    assert (plan.input_size, plan.notes["speedup"]) == ((8, 8), 9.0)
    layers = {x.name: x.shape for x in find_layers(*network(run / "p-pruned", (8, 8)))}
    assert all(layers[name] == layer.conv for name, layer in plan.layers.items())


def test_candidates_are_judged_by_training(run, monkeypatch, capsys):
    """The one with the least loss on all held-out images is chosen, whatever it lost before."""
    from activsparse.cli import plan_variants

    monkeypatch.setattr(plan_variants, "SIZES", (0.75, 0.5))
    command = ["plan", "run", "--target-speedup", "1.2", "--out", "p.yaml", *FEW, "--estimate"]
    command += ["--rounds", "0", "--allow", "input-size", "--train-epochs", "1"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    losses = {}
    for place in (run / "p-trained").iterdir():
        trained = load_run(place)
        losses[trained.example_input.shape[2]] = independent_loss(trained)
        assert trained.config.training.epochs == 1
        assert trained.config.distillation.image_size == (16, 16)
    assert len(losses) > 1
    plan = read_mask_plan("p.yaml")
    assert plan.input_size[0] == min(losses, key=losses.get)
    assert plan.notes["trained_loss"] == pytest.approx(min(losses.values()), rel=1e-5)
    assert "held-out loss" in shown

    # Once more: nothing is trained anew.
    files = {path: path.stat().st_mtime_ns for path in run.glob("p-trained/*/best.ckpt")}
    assert main(command) == 0
    assert files == {path: path.stat().st_mtime_ns for path in run.glob("p-trained/*/best.ckpt")}
    assert read_mask_plan("p.yaml") == plan


def test_pruned_candidates_are_trained_too(run, monkeypatch):
    pytest.importorskip("torch_pruning")
    from activsparse.cli import plan_variants

    monkeypatch.setattr(plan_variants, "RATIOS", (0.4,))
    make_run(run / "wide", "sparsity=null", "model.options={'widths': [32, 32], 'blocks': [1, 1]}")
    command = ["plan", "wide", "--target-speedup", "1.2", "--out", "p.yaml", *FEW, "--estimate"]
    assert main([*command, "--rounds", "0", "--allow", "channels", "--train-epochs", "1"]) == 0
    trained = [load_run(place) for place in run.glob("p-trained/16x16-*")]
    losses = {each.config.init_from: independent_loss(each) for each in trained}
    pruned = "p-trained/without-0.4"
    assert losses.keys() == {"wide", pruned}
    assert (run / "p-pruned").exists() == (min(losses, key=losses.get) == pruned)


@pytest.mark.slow
def test_the_networks_time_is_measured(run, capsys):
    """A target this low is met by hardly any mask: what counts is that the engine was asked."""
    command = ["plan", "run", "--target-speedup", "1.001", "--out", "p.yaml", *FEW]
    assert main([*command, "--repeat", "5"]) in (0, 2)
    captured = capsys.readouterr()
    assert "(measured)" in captured.out or "masks here reach" in captured.err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resnet18", "--target-speedup", "1.5"], "name them with --data"),
        (["dense.onnx", "--target-speedup", "1.5"], "losses are measured with torch"),
        (["run", "--target-speedup", "99", "--estimate", *FEW], "masks here reach"),
        (["resnet19", "--data", "digits", "--target-speedup", "2"], "resnet18"),
        (["run", "--target-speedup", "2", "--train-epochs", "1"], "say which with --allow"),
        (
            ["resnet18", "--target-speedup", "2", "--train-epochs", "1", "--allow", "input-size"],
            "only a run can be trained on",
        ),
        (["run", "--target-speedup", "1.5", "--plot", "p.txt"], "no such kind of picture"),
        (["run", "--target-speedup", "1.5", "--out", "no/p.yaml"], "its folder does not exist"),
        (["run", "--target-speedup", "1.5", "--out", "."], ".: is a folder; name a file"),
    ],
)
def test_mistakes_are_one_line(words, message, run, capsys):
    (run / "dense.onnx").write_bytes(b"")
    assert main(["plan", "--out", "p.yaml", *words]) == 2
    (line,) = [x for x in capsys.readouterr().err.splitlines() if "error" in x]
    assert message in line
    assert not (run / "p.yaml").exists()


def test_masks_of_another_network(run, capsys):
    command = ["plan", "run", "--target-speedup", "1.05", "--out", "p.yaml", *FEW, "--estimate"]
    assert main([*command, "--rounds", "0"]) == 0
    start = ["--set", *TINY, "model.options={'widths': [8, 24], 'blocks': [1, 1]}"]
    assert main(["train", "--recipe", "digits_demo", "--plan", "p.yaml", "--out", "x", *start]) == 2
    assert "mask plan: layer " in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["plan", "run", "--target-speedup", "1.5", "--out", "p.yaml", "--allow", "colours"])
    assert "write input-size, channels or both" in capsys.readouterr().err
