"""Sensitivity of layers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from runs import make_run
from small_networks import example, make_net
from torch import nn

from activsparse import ActivsparseError
from activsparse.cli import main
from activsparse.train import Sparsifier
from activsparse.train.plan.sensitivity import (
    Sensitivity,
    measure_sensitivity,
    write_sensitivity,
)

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


def test_a_file_holds_six_decimals(tmp_path):
    third = 1 / 3
    write_sensitivity(
        [Sensitivity("conv", 0.3, third, 2 * third, -third, None)], tmp_path / "s.csv"
    )
    assert (tmp_path / "s.csv").read_text().splitlines() == [
        "layer,requested,achieved,loss,loss_increase,top1",
        "conv,0.3,0.333333,0.666667,-0.333333,",
    ]


def test_command(tmp_path, capsys):
    make_run(tmp_path / "run", "sparsity.pattern=lattice")
    files = ["--out", str(tmp_path / "s.csv"), "--plot", str(tmp_path / "s.png")]
    options = ["--sparsities", "0.3", "0.5", "--images", "128", "--pattern", "lattice"]
    run = str(tmp_path / "run")
    assert main(["sensitivity", run, *files, *options]) == 0
    shown = capsys.readouterr().out
    assert "stages.1.0.conv2" in shown
    assert "128 held-out images, loss of the dense network" in " ".join(shown.split())
    assert (tmp_path / "s.csv").read_text().count("\n") == 1 + 2 * 4
    assert (tmp_path / "s.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(SystemExit, match="2"):
        main(["sensitivity", run, "--sparsities", "1.5"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--plot", "s.txt"], "no such kind of picture; name a .png"),
        (["--out", "nowhere/s.csv"], "cannot be written"),
    ],
)
def test_mistakes_show_before_anything_is_measured(options, message, tmp_path, monkeypatch, capsys):
    make_run(tmp_path / "run", "sparsity=null")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("activsparse.train.plan.sensitivity.measure_sensitivity", None)
    assert main(["sensitivity", "run", *options]) == 2
    assert message in capsys.readouterr().err
