"""Parallel branches of one sum are one layer with one mask, in torch as in a file."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from activsparse import Session
from activsparse.engine.verify import compare_with_onnxruntime
from activsparse.export.convs import find_convs
from activsparse.export.mask import mask_model
from activsparse.export.read import read_masks
from activsparse.train import Sparsifier
from activsparse.train.sparsify.layers import find_layers


class Block(nn.Module):
    """As RepVGG trains it, and MobileOne, whose sum starts with 0."""

    def __init__(self, channels: int, group: int, norm: bool, passes: bool = True) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, k, padding=k // 2, groups=group, bias=False),
                nn.BatchNorm2d(channels),
            )
            for k in (1, 3, 3)
        )
        self.identity = nn.BatchNorm2d(channels) if norm else None
        self.sum = nn.Identity() if passes else None

    def forward(self, x: Tensor) -> Tensor:
        y = 0 if self.identity is None else self.identity(x)
        for branch in self.branches:
            y = y + branch(x)
        return torch.relu(y if self.sum is None else self.sum(y))


def network(*blocks: nn.Module) -> nn.Module:
    torch.manual_seed(len(blocks))
    stem = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU())
    model = nn.Sequential(stem, *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 1.5)
    return model.eval()


def exported(model: nn.Module, x: Tensor, path) -> onnx.ModelProto:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), path, dynamo=False, opset_version=17)
    return onnx.load(path)


@pytest.mark.parametrize(("norm", "group", "fill"), [(False, 16, "nearest"), (True, 1, "zero")])
def test_one_mask_and_one_convolution(tmp_path, norm, group, fill):
    model = network(Block(16, group, norm), Block(16, group, not norm))
    x = torch.rand(1, 3, 17, 14)
    dense = exported(model, x, tmp_path / "dense.onnx")
    masked, report = mask_model(dense, 0.3, pattern="lattice", fill=fill)
    onnx.save(masked, tmp_path / "masked.onnx")
    assert len(report.layers) == 2
    assert sum("that of their sum" in why for why in report.dense.values()) == 4
    trained = Sparsifier(model, x, 0.3, pattern="lattice", fill=fill).masks()
    exported(model, x, tmp_path / "trained.onnx")
    with torch.no_grad():
        expected = model(x).numpy()
    masks = read_masks(tmp_path / "masked.onnx")
    assert len(masks) == len(trained) == 2
    for ours, theirs in zip(masks.values(), trained.values(), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    for name in ("masked", "trained"):
        path = tmp_path / f"{name}.onnx"
        session = Session(path, tune=False)
        for row in compare_with_onnxruntime(path, session):
            assert row.holds, row
        rows = session.explain()
        assert sum(row.kind == "conv" for row in rows) == 3, rows
        assert sum(bool(row.requested) for row in rows) == 2, rows
        np.testing.assert_allclose(session.run(x.numpy()), expected, rtol=1e-4, atol=1e-4)


class Residual(nn.Module):
    """Branches of one value beside the value itself, which fills holes."""

    def __init__(self) -> None:
        super().__init__()
        self.three = nn.Conv2d(16, 16, 3, padding=1)
        self.one = nn.Conv2d(16, 16, 1)
        self.sum = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.sum(self.three(x) + x + self.one(x)))


class ReadTwice(Residual):
    def forward(self, x: Tensor) -> Tensor:
        y = self.sum(self.three(x) + self.one(x))
        return torch.relu(y) + torch.sigmoid(self.one(y))


class Deeper(Residual):
    """A shortcut with a projection: the branches read different values."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.sum(self.three(torch.relu(x - 1)) + self.one(x)))


@pytest.mark.parametrize("kind", [Residual, ReadTwice, Deeper])
def test_other_sums_stay_as_they_were(tmp_path, kind):
    model, x = network(kind()), torch.rand(1, 3, 12, 12)
    file = exported(model, x, tmp_path / "m.onnx")
    assert not [conv for conv in find_convs(file, sums=True) if conv.part_of]
    assert not [layer for layer in find_layers(model, x) if layer.sums]
    for apart, together in zip(find_convs(file), find_convs(file, sums=True), strict=True):
        assert apart == together


def test_a_sum_nothing_passes_on_is_masked_apart_in_torch(tmp_path):
    """There is no module whose output it is; a file has a value for it."""
    model, x = network(Block(16, 1, True, passes=False)), torch.rand(1, 3, 12, 12)
    assert not [layer for layer in find_layers(model, x) if layer.sums]
    file = exported(model, x, tmp_path / "m.onnx")
    assert sum(conv.part_of is not None for conv in find_convs(file, sums=True)) == 2
