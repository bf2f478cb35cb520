"""What cannot be exported shows before its training is paid for."""

from __future__ import annotations

import pytest
from runs import TINY

from activsparse.cli import main

BRANCHES = """
from torch import nn


class Branches(nn.Module):
    '''Which path is taken depends on numbers, which an ONNX file of one path cannot say.'''

    def __init__(self, num_classes, in_channels):
        super().__init__()
        self.first = nn.Conv2d(in_channels, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.head = nn.Linear(8, num_classes)

    def forward(self, x):
        x = self.second(self.first(x).relu())
        x = x.relu() if float(x.detach().sum()) > 0 else x.sigmoid()
        return self.head(x.mean((2, 3)))


def branches(num_classes, in_channels=1, **options):
    return Branches(num_classes, in_channels)
"""


@pytest.fixture
def recipe(tmp_path, monkeypatch):
    (tmp_path / "strange_networks.py").write_text(BRANCHES)
    monkeypatch.syspath_prepend(tmp_path)
    return [
        *("train", "--recipe", "digits_demo", "--set", *TINY, "dense=null"),
        *("model.name=strange_networks:branches", "model.options={}", "sparsity.skip_stem=false"),
        *("--out", str(tmp_path / "run")),
    ]


def test_it_is_told_before_anything_is_trained(recipe, tmp_path, capsys):
    assert main(recipe) == 2
    error = capsys.readouterr().err
    assert "what would be trained cannot be exported: torch cannot export Branches" in error
    assert "--no-check-export" in error
    assert not (tmp_path / "run").exists()


def test_it_can_be_trained_all_the_same(recipe, tmp_path):
    assert main([*recipe, "--no-check-export"]) == 0
    assert (tmp_path / "run" / "best.ckpt").exists()
