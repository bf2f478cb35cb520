"""Pruned channels: smaller, loadable, trainable, with the masks they had."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runs import TINY, make_run
from torch import nn
from torchvision.models import mobilenet_v2, resnet18

from activsparse import ActivsparseError
from activsparse.cli import main
from activsparse.data import build_data
from activsparse.export.onnx import convert
from activsparse.models import build_model
from activsparse.models.pruned import PRUNED, channels_of, prune_channels
from activsparse.train import load_run
from activsparse.train.phase import make_teacher
from activsparse.train.prune import prune_run
from activsparse.train.recipes.read import dump_config, load_config

torch_pruning = pytest.importorskip("torch_pruning")
NO_MASKS = ("sparsity=null", "dense=null")
LATTICE = ("sparsity.pattern=lattice", "sparsity.sparsity=0.3", "sparsity.fill=auto")


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_a_pruned_network_is_rebuilt_from_its_channels(name):
    torch.manual_seed(0)
    model = {"resnet18": resnet18, "mobilenet_v2": mobilenet_v2}[name](num_classes=7)
    x = torch.randn(2, 3, 32, 32)
    small = prune_channels(model, x, 0.5, round_to=8)
    assert channels_of(small) != channels_of(model)
    # Half of the channels on both sides leaves about a quarter of the weights.
    count = lambda m: sum(p.numel() for p in m.parameters())  # noqa: E731
    assert 0.2 < count(small) / count(model) < 0.35
    assert all(c[-2] % 8 == 0 for c in channels_of(small).values() if len(c) == 3)

    again = build_model(PRUNED, 7, base=name, channels=channels_of(small))
    again.load_state_dict(small.state_dict())
    torch.testing.assert_close(again.eval()(x), small.eval()(x), rtol=0, atol=0)
    assert model(x).shape == small(x).shape == (2, 7)


def test_the_channels_of_least_weight_go(tmp_path):
    run = make_run(tmp_path / "run", "sparsity=null")
    conv = run.model.stages[0][0].conv1
    with torch.no_grad():
        conv.weight[[1, 4]] *= 1e-4
        run.model.stages[0][0].bn1.weight[[1, 4]] *= 1e-4
        run.model.stages[0][0].conv2.weight[:, [1, 4]] *= 1e-4
    small = prune_channels(run.model, run.example_input, 0.25, round_to=1)
    kept = [0, 2, 3, 5, 6, 7]
    assert small.stages[0][0].conv1.out_channels == 6
    # The inputs of this convolution are pruned as well, so only norms identify the channels.
    torch.testing.assert_close(
        small.stages[0][0].bn1.weight, run.model.stages[0][0].bn1.weight[kept]
    )


def test_masks_survive_and_the_file_is_right(tmp_path):
    run = make_run(tmp_path / "run", *LATTICE)
    small = prune_run(tmp_path / "run", tmp_path / "small", 0.5, round_to=4)
    assert small.config.model.name == PRUNED
    before, after = run.sparsifier.masks(), small.sparsifier.masks()
    assert list(before) == list(after)
    for name, mask in before.items():
        np.testing.assert_array_equal(after[name], mask)
    assert small.sparsifier.frozen
    exported = convert(small.model, small.example_input)
    assert len(exported.masks) == len(before)

    twice = prune_run(tmp_path / "small", tmp_path / "smaller", 0.5, round_to=1)
    assert twice.config.model.options["base"] == "small_resnet"


def test_a_stem_for_small_images_stays_one(tmp_path):
    model = build_model("resnet18", 10, in_channels=1, small_images=True)
    config = load_config("digits_demo", ["model={name: resnet18, small_images: true}", *NO_MASKS])
    folder = tmp_path / "run"
    folder.mkdir()
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    extra = {"shape": [1, 16, 16], "num_classes": 10}
    torch.save({"state_dict": state, "activsparse": extra}, folder / "best.ckpt")
    (folder / "config.yaml").write_text(dump_config(config))
    small = prune_run(folder, tmp_path / "small", 0.5).model
    assert (small.conv1.out_channels, small.conv1.kernel_size, small.conv1.stride) == (
        32,
        (3, 3),
        (1, 1),
    )
    assert isinstance(small.maxpool, nn.Identity)


def test_a_pruned_run_is_trained_further_with_masks(tmp_path, capsys):
    make_run(tmp_path / "run", "sparsity=null")
    small = tmp_path / "small"
    assert main(["prune", str(tmp_path / "run"), "--out", str(small), "--ratio", "0.5"]) == 0
    assert "parameters: " in capsys.readouterr().out
    start = ["--set", *TINY, f"init_from={small}", *LATTICE]
    assert main(["train", "--recipe", "digits_demo", "--out", str(tmp_path / "on"), *start]) == 0
    run = load_run(tmp_path / "on")
    assert run.model.stages[1][0].conv1.out_channels == 8
    assert run.sparsifier.achieved_sparsity > 0.2


def test_the_teacher_of_a_pruned_network_is_the_one_before(tmp_path):
    """Pruned twice: what pruning leaves knows little until it is trained."""
    whole = make_run(tmp_path / "run", "sparsity=null")
    (tmp_path / "run" / "last.ckpt").write_bytes((tmp_path / "run" / "best.ckpt").read_bytes())
    prune_run(tmp_path / "run", tmp_path / "small", 0.5, round_to=4)
    prune_run(tmp_path / "small", tmp_path / "smaller", 0.5, round_to=1)
    changes = [*TINY, f"init_from={tmp_path / 'smaller'}", "distillation={}"]
    data = build_data("digits", image_size=16)
    teacher = make_teacher(load_config("digits_demo", changes), data)
    assert teacher.network.state_dict().keys() == whole.model.state_dict().keys()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(teacher.network.state_dict()[key], value), key


def test_errors(tmp_path):
    run = make_run(tmp_path / "run", "sparsity=null")
    for options, words in (
        ({"ratio": 1.0}, "outside"),
        ({"ratio": 0.05}, "takes no channel out"),
        ({"ratio": 0.5, "skip": ["nothing*"]}, "matches no"),
        ({"ratio": 0.5, "round_to": 0}, "at least 1"),
    ):
        with pytest.raises(ActivsparseError, match=words):
            prune_channels(run.model, run.example_input, **options)
    with pytest.raises(ActivsparseError, match="holds a run already"):
        prune_run(tmp_path / "run", tmp_path / "run", 0.5)
    with pytest.raises(ActivsparseError, match="has no layer"):
        build_model(PRUNED, 7, base="small_resnet", channels={"nowhere": [1, 2]})
