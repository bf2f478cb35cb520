"""Networks whose answer is a map: what computes its positions keeps all of them."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

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


class Answer(nn.Module):
    """A body, a convolution that answers, and what is made of its map."""

    def __init__(self, make, channels, kernel=3):
        super().__init__()
        self.body = nn.Sequential(block(3, 16), block(16, 32), block(32))
        self.answer = nn.Conv2d(32, channels, kernel, padding=kernel // 2)
        self.make = make

    def forward(self, x):
        return self.make(self.answer(self.body(x)))


class Detector(nn.Module):
    """Predictions of two sizes, as in SSD; boxes, which are positive, as in FCOS."""

    def __init__(self):
        super().__init__()
        self.first, self.down = block(3, 16), nn.Sequential(nn.MaxPool2d(2), block(16))
        self.answer, self.answer_deep = (nn.Conv2d(16, 24, 3, padding=1) for _ in range(2))
        self.answer_boxes = nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x):
        x = self.first(x)
        maps = self.answer(x), self.answer_deep(self.down(x))
        lists = [y.permute(0, 2, 3, 1).reshape(y.shape[0], -1, 6) for y in maps]
        boxes = torch.relu(self.answer_boxes(x)).view(x.shape[0], 4, 4, -1).permute(0, 3, 1, 2)
        return torch.cat(lists, 1).softmax(-1), boxes.reshape(x.shape[0], -1, 4)


def larger(y):
    return functional.interpolate(y, scale_factor=2, mode="bilinear")


ANSWERS = {
    "classes": lambda: Answer(lambda y: y, 21),
    "classes, softmax": lambda: Answer(lambda y: y.softmax(1), 21),
    "classes, enlarged": lambda: Answer(larger, 21),
    "classes, enlarged, chosen": lambda: Answer(lambda y: larger(y).argmax(1), 21),
    "two classes, chosen": lambda: Answer(lambda y: y.argmax(1), 2),
    "one class": lambda: Answer(torch.sigmoid, 1),
    "heat maps": lambda: Answer(lambda y: 0.5 * torch.sigmoid(y) + 1, 17),
    "depth": lambda: Answer(lambda y: y.squeeze(1), 1),
    "a list": lambda: Answer(lambda y: y.flatten(2).transpose(1, 2), 12),
    "predictions": Detector,
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_of_larger_kernels(name):
    torch.manual_seed(0)
    model, example = ANSWERS[name]().eval(), torch.randn(1, 3, 16, 16)
    masked = mask_model(convert(model, example).model, 0.3, pattern="lattice")[1].layers
    names = {layer.name for layer in masked}
    assert names
    assert not any("answer" in layer for layer in names), names
    sparsifier = sparsify(model, example, sparsity=0.3, pattern="lattice", total_steps=1)
    assert {layer.name for layer in sparsifier.layers} == names


class Features(nn.Module):
    """What a backbone returns, and networks whose last convolution's positions are mixed."""

    def __init__(self, make):
        super().__init__()
        self.body, self.last, self.norm = block(3, 16), nn.Conv2d(16, 16, 3, padding=1), block(16)
        self.linear, self.recurrent = nn.Linear(16, 5), nn.LSTM(16, 8)
        self.up, self.make = nn.ConvTranspose2d(16, 3, 9, 2, 4, 1), make

    def forward(self, x):
        x = self.body(x)
        return self.make(self, x, self.last(x))


FEATURES = {
    "activated": lambda net, x, y: torch.relu(y),
    "a sum": lambda net, x, y: x + y,
    "a gate": lambda net, x, y: x * torch.sigmoid(y),
    "averaged": lambda net, x, y: net.linear(y.mean((2, 3))),
    "a matrix": lambda net, x, y: net.linear(y.flatten(2).transpose(1, 2).reshape(-1, 16)),
    "read in turn": lambda net, x, y: net.recurrent(torch.relu(y).mean(2).permute(2, 0, 1))[0],
    "enlarged by overlapping windows": lambda net, x, y: net.up(y),
}


@pytest.mark.parametrize("name", FEATURES)
def test_layers_that_are_no_answers(name):
    torch.manual_seed(0)
    model, example = Features(FEATURES[name]).eval(), torch.randn(1, 3, 16, 16)
    masked = mask_model(convert(model, example).model, 0.3, pattern="lattice")[1].layers
    assert "last" in {layer.name for layer in masked}
    sparsifier = sparsify(model, example, sparsity=0.3, pattern="lattice", total_steps=1)
    assert "last" in {layer.name for layer in sparsifier.layers}


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
