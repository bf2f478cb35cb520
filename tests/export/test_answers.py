"""Networks whose answer is a map: what computes its positions keeps all of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from activsparse import sparsify, verify
from activsparse.export.mask import mask_model
from activsparse.export.onnx import convert


def block(channels, out=None):
    out = out or channels
    return nn.Sequential(nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU())


class Segmenter(nn.Module):
    """A small UNet: down, up by a transposed convolution, a class for every pixel."""

    def __init__(self):
        super().__init__()
        self.first, self.down, self.deep = block(3, 16), nn.MaxPool2d(2), block(16, 32)
        self.up, self.last = nn.ConvTranspose2d(32, 16, 2, stride=2), block(32, 16)
        self.answer = nn.Conv2d(16, 7, 1)

    def forward(self, x):
        x = self.first(x)
        y = self.up(self.deep(self.down(x)))
        return self.answer(self.last(torch.cat([x, y], 1)))


class SuperResolution(nn.Module):
    """Twice the size: the last convolution computes pixels, which are shuffled."""

    def __init__(self):
        super().__init__()
        self.first, self.body = block(3, 16), nn.Sequential(block(16), block(16))
        self.answer, self.shuffle = nn.Conv2d(16, 12, 3, padding=1), nn.PixelShuffle(2)

    def forward(self, x):
        x = self.first(x)
        return self.shuffle(self.answer(x + self.body(x)))


class Pose(nn.Module):
    """A heat map for every keypoint, behind a transposed convolution."""

    def __init__(self):
        super().__init__()
        self.first, self.body = block(3, 16), nn.Sequential(block(16), block(16))
        self.up = nn.ConvTranspose2d(16, 16, 4, stride=2, padding=1)
        self.answer = nn.Conv2d(16, 17, 1)

    def forward(self, x):
        return self.answer(torch.relu(self.up(self.body(self.first(x)))))


@pytest.mark.parametrize("network", [Segmenter, SuperResolution, Pose])
def test_the_answer_keeps_all_positions(network, tmp_path):
    torch.manual_seed(0)
    model, example = network().eval(), torch.randn(1, 3, 24, 24)
    dense = convert(model, example).model
    masked, report = mask_model(dense, 0.3, pattern="lattice")
    names = {layer.name for layer in report.layers}
    assert "answer" not in names
    assert names
    sparsifier = sparsify(model, example, sparsity=0.3, pattern="lattice", total_steps=1)
    assert {layer.name for layer in sparsifier.layers} == names
    path = tmp_path / "masked.onnx"
    path.write_bytes(masked.SerializeToString())
    verify(path)
