"""Sensitivity of layers, and sparsities chosen by it under a target speed-up."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from runs import make_run
from small_networks import example, make_net
from torch import nn

from activsparse import ActivsparseError
from activsparse.cli import main
from activsparse.masks import ConvShape
from activsparse.masks.latency import dense_ms, layer_ms
from activsparse.train import Sparsifier
from activsparse.train.plan.sensitivity import Sensitivity, measure_sensitivity
from activsparse.train.plan.speedup import _GRID, estimated_speedup, sparsities_for_speedup
from activsparse.train.sparsify.layers import ConvLayer, find_layers

LOSS = nn.functional.cross_entropy


def _batches(count: int = 2) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(example(4, seed=50 + at), torch.arange(4) % 5) for at in range(count)]


def test_each_layer_is_masked_alone():
    net = make_net()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    found = measure_sensitivity(
        net, example(), _batches(), LOSS, (0.5, 0.25), pattern="lattice", skip=["last"]
    )
    names = [f"blocks.{i}.conv{j}" for i in (0, 1) for j in (1, 2)]
    assert [(row.layer, row.requested) for row in found] == [
        (name, s) for name in names for s in (0.25, 0.5)
    ]
    assert net.state_dict().keys() == state.keys()
    for key, value in net.state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=0, atol=0)

    # By hand, for one layer.
    row = found[3]
    other = make_net()
    Sparsifier(other, example(), 0.5, pattern="lattice", skip=["last", "blocks.1*", "*.0.conv1"])
    other.train()
    with torch.no_grad():
        masked = float(np.mean([float(LOSS(other(x), y)) for x, y in _batches()]))
        net.train()
        dense = float(np.mean([float(LOSS(net(x), y)) for x, y in _batches()]))
    assert row.layer == "blocks.0.conv2"
    assert row.loss == pytest.approx(masked, rel=1e-6)
    assert row.loss_increase == pytest.approx(masked - dense, abs=1e-6)


def test_a_layer_that_changes_nothing_is_an_error():
    class Unused(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.used, self.lost = (nn.Conv2d(3, 3, 3) for _ in range(3))

        def forward(self, x):
            x = self.stem(x)
            return self.used(x).mean((2, 3)) + 0 * self.lost(x).mean()

    with pytest.raises(ActivsparseError, match=r"layer lost: .* changes nothing"):
        measure_sensitivity(Unused(), example(), [(example(4), torch.zeros(4).long())], LOSS)


def _layer(name: str, channels: int, size: int) -> ConvLayer:
    shape = ConvShape((3, 3), (1, 1), 1, channels, channels, (size, size))
    plain = next(x for x in find_layers(make_net(), example()) if x.norm)
    return ConvLayer(**{**vars(plain), "name": name, "shape": shape})


@pytest.mark.parametrize("target", [1.1, 1.2, 1.35])
def test_the_least_loss_that_is_fast_enough(target):
    layers = [_layer("stem", 16, 14), _layer("a", 64, 28), _layer("b", 128, 14)]
    slopes = {"a": 0.1, "b": 0.7}
    found = [Sensitivity(n, s, s, 0, k * s**2, 0) for n, k in slopes.items() for s in (0.25, 0.5)]
    chosen = sparsities_for_speedup(layers, found, target, "auto")
    assert list(chosen) == ["a", "b"]

    # All pairs, by force.
    whole = sum(dense_ms(layer.shape) for layer in layers)
    increase = {n: np.interp(_GRID, [0, 0.25, 0.5], [0, k / 16, k / 4]) for n, k in slopes.items()}

    def ms(layer: ConvLayer, s: float) -> float:
        return layer_ms(layer.shape, "auto", s) if s else dense_ms(layer.shape)

    def time(a: float, b: float) -> float:
        return dense_ms(layers[0].shape) + ms(layers[1], a) + ms(layers[2], b)

    fits = [
        (increase["a"][i] + increase["b"][j], a, b)
        for (i, a), (j, b) in itertools.product(enumerate(_GRID), enumerate(_GRID))
        if time(a, b) <= whole / target and max(a, b) <= 0.52
    ]
    assert max(chosen.values()) <= 0.52
    assert time(chosen["a"], chosen["b"]) <= whole / target * (1 + 1e-6)
    lost = sum(increase[n][_GRID.index(s)] for n, s in chosen.items())
    # Rounding times up may cost one step of the grid.
    assert lost <= min(fits)[0] + 0.05


def test_targets_out_of_reach_say_what_can_be_reached():
    layers = [_layer("stem", 64, 56), _layer("a", 16, 14)]
    found = [Sensitivity("a", 0.5, 0.5, 0, 0.1, 0)]
    with pytest.raises(ActivsparseError, match=r"reach an estimated 1\.\d\d at most"):
        sparsities_for_speedup(layers, found, 3.0)
    with pytest.raises(ActivsparseError, match="must be above 1"):
        sparsities_for_speedup(layers, found, 1.0)


def test_masks_of_the_chosen_sparsities_are_about_as_fast():
    from torchvision.models import resnet18

    model, x = resnet18(num_classes=5).eval(), torch.randn(1, 3, 96, 96)
    layers = find_layers(model, x)
    plain = Sparsifier(model, x, 0.3, pattern="lattice")
    names = [layer.name for layer in plain.layers]
    plain.detach()
    found = [Sensitivity(n, 0.5, 0.5, 0, 0.1 + i % 3, 0) for i, n in enumerate(names)]
    chosen = sparsities_for_speedup(layers, found, 1.3, "auto")
    masks = Sparsifier(model, x, 0.0, per_layer=chosen, pattern="auto").masks()
    assert estimated_speedup(layers, masks) == pytest.approx(1.3, abs=0.05)


def test_command(tmp_path, capsys):
    make_run(tmp_path / "run", "sparsity.pattern=lattice")
    files = ["--out", str(tmp_path / "s.csv"), "--plot", str(tmp_path / "s.png")]
    options = ["--sparsities", "0.3", "0.5", "--images", "128", "--pattern", "lattice"]
    run = str(tmp_path / "run")
    assert main(["sensitivity", run, *files, *options, "--target-speedup", "1.05"]) == 0
    shown = capsys.readouterr().out
    assert "stages.1.0.conv2" in shown
    assert "128 held-out images, loss of the dense network" in " ".join(shown.split())
    assert "per_layer" in shown
    assert (tmp_path / "s.csv").read_text().count("\n") == 1 + 2 * 4
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"
    assert main(["sensitivity", run, *options, "--spread", "0.35"]) == 0
    assert "0.35 of the layers' multiply-adds" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        main(["sensitivity", run, "--sparsities", "1.5"])


def test_figures_are_kept_where_a_target_is_out_of_reach(tmp_path, capsys):
    make_run(tmp_path / "run", "sparsity=null")
    command = ["sensitivity", str(tmp_path / "run"), "--sparsities", "0.3", "--images", "32"]
    out = tmp_path / "s.csv"
    assert main([*command, "--out", str(out), "--target-speedup", "9"]) == 2
    assert "at most; lower the target" in capsys.readouterr().err
    assert out.read_text().count("\n") == 1 + 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plot", "s.txt"], "no such kind of picture; name a .png"),
        (["--out", "nowhere/s.csv"], "cannot be written"),
        (["--spread", "0"], "outside"),
    ],
)
def test_mistakes_show_before_anything_is_measured(options, message, tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "run", "sparsity=null")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("activsparse.train.plan.sensitivity.measure_sensitivity", None)
    assert main(["sensitivity", "run", *options]) == 2
    assert message in capsys.readouterr().err
