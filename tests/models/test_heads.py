"""Heads are found alike in torch and in ONNX files, and stay dense."""

from __future__ import annotations

import warnings

import onnx
import pytest
import torch
from torch import nn

from activsparse.export.convs import find_convs
from activsparse.export.mask import mask_model
from activsparse.models.yolov5 import YoloV5
from activsparse.train import Sparsifier


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.classes = nn.Conv2d(8, 4, 1)
        self.upsample = nn.Upsample(scale_factor=2)

    def forward(self, x):
        return self.upsample(self.classes(self.body(x).relu()))


class Classifier(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.fc = nn.Linear(8, 2)

    def forward(self, x):
        return self.fc(self.body(x).mean((2, 3)))


@pytest.fixture(scope="module")
def yolov5():
    return YoloV5(3, width=0.125).eval()


@pytest.mark.parametrize(
    ("name", "heads"),
    [
        ("yolov5", {f"head.convs.{i}" for i in range(3)}),
        ("segmenter", {"classes"}),
        ("classifier", set()),
    ],
)
def test_heads(name, heads, yolov5, tmp_path):
    torch.manual_seed(0)
    model = {"yolov5": yolov5, "segmenter": Segmenter(), "classifier": Classifier()}[name].eval()
    x = torch.zeros(1, 3, 64, 64)
    path = tmp_path / "model.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), path, dynamo=False, do_constant_folding=False)
    proto = onnx.load(path)
    sizes = [conv.shape.output for conv in find_convs(proto) if conv.role == "head"]
    assert len(sizes) == len(heads)
    _, report = mask_model(proto, 0.3, pattern="lattice")
    assert list(report.dense.values()).count("head") == len(heads)

    sparsifier = Sparsifier(model, x, 0.3, pattern="lattice")
    skipped = {k for k, v in sparsifier.skipped.items() if v == "head"}
    assert skipped == heads
    if name != "yolov5":
        return
    # SiLU works in place: its result is no norm's output, so no bottleneck has a projection.
    assert not [v for v in sparsifier.skipped.values() if "shortcut" in v]
    assert len(sparsifier.layers) == len(report.layers)
