"""The README's training loop runs as it stands, on a network of one's own."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import nn

from activsparse.export.read import read_masks
from activsparse.models import SmallResNet

TEXT = (Path(__file__).parents[2] / "README.md").read_text()


def test_the_training_loop_ends_with_files_and_a_speed(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    (loop,) = [block for block in blocks if "activsparse.sparsify(" in block]
    torch.manual_seed(0)
    model = SmallResNet(3, 3, widths=(8, 16), blocks=(1, 1))
    steps = 2
    names = {
        "model": model,
        "example_input": torch.zeros(1, 3, 16, 16),
        "steps": steps,
        "batches": [(torch.randn(4, 3, 16, 16), torch.randint(3, (4,))) for _ in range(steps)],
        "criterion": nn.CrossEntropyLoss(),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
    }
    exec(loop, names)
    assert names["sparsifier"].frozen
    assert read_masks("tiles.onnx")
    assert "times as fast as dense" in capsys.readouterr().out
