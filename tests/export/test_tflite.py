"""`activsparse export --tflite` on a trained run."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

from activsparse import ActivsparseError
from activsparse.export.tflite import export_tflite
from activsparse.train.sparsify.sparsifier import Sparsifier

INSTALLED = importlib.util.find_spec("litert_torch") is not None


def network() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    example = torch.randn(1, 3, 12, 12)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)]
    model = nn.Sequential(*layers, nn.BatchNorm2d(8)).eval()
    Sparsifier(model, example, 0.25)
    return model, example


@pytest.mark.skipif(INSTALLED, reason="litert-torch is installed")
def test_a_missing_converter_is_said(tmp_path: Path) -> None:
    model, example = network()
    with pytest.raises(ActivsparseError, match=r"activsparse\[tflite\]"):
        export_tflite(model, example, tmp_path / "m.tflite")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not INSTALLED, reason="needs litert-torch")
def test_a_masked_network(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    model, example = network()
    check = export_tflite(model, example, tmp_path / "m.tflite")
    assert check is not None
    assert check.passed
    interpreter = Interpreter(str(tmp_path / "m.tflite"))
    assert list(interpreter.get_input_details()[0]["shape"]) == [1, 12, 12, 3]
    assert any(node["op_name"] == "MUL" for node in interpreter._get_ops_details())
