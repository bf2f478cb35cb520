"""Masks that the layers of a residual branch share: what is skipped, nobody reads."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torchvision.models import mobilenet_v2, resnet18, resnet50

from activsparse import ActivsparseError
from activsparse.export.convs import find_convs
from activsparse.export.onnx import convert
from activsparse.masks import ConvShape
from activsparse.masks.branches import band_of_branch, branches, rows_read
from activsparse.masks.exact import BandMask
from activsparse.masks.plan_options import DENSE, PlanLayer
from activsparse.masks.plan_units import plan_units, unit_options
from activsparse.models import build_model
from activsparse.train import Sparsifier
from activsparse.train.plan.masked_network import MaskedNetwork
from activsparse.train.sparsify.hooks import held_masks
from activsparse.train.sparsify.layers import find_layers

SIZE = 64


def settled(model, x):
    """The model with the statistics of its own norms, so that what is random does not vanish."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    return model.eval()


def networks():
    yield "resnet18", resnet18(num_classes=5), [2] * 8
    yield "resnet50", resnet50(num_classes=5), [3] * 16
    # Of the blocks that begin a stage nothing is added; their output is the next block's shortcut.
    yield "mobilenet_v2", mobilenet_v2(num_classes=5), [3] * 10
    yield "lite0", timm.create_model("tf_efficientnet_lite0", num_classes=5), [3] * 9
    # A gate looks at the whole map, so only the last convolution can leave out what it likes.
    yield "se", timm.create_model("efficientnet_b0", num_classes=5), [1] * 9
    yield "yolov5n", build_model("yolov5n", 5), [2] * 7


@pytest.mark.parametrize(("name", "model", "lengths"), networks())
def test_branches_are_found_alike_in_torch_and_onnx(name, model, lengths):
    torch.manual_seed(0)
    x = torch.zeros(1, 3, SIZE, SIZE)
    found = branches(find_layers(model.eval(), x))
    assert [len(branch) for branch in found] == lengths
    if name in ("resnet18", "mobilenet_v2", "se"):
        proto = convert(model, x).model
        assert branches([conv for conv in find_convs(proto) if conv.shape]) == found


@pytest.mark.parametrize(
    ("kernel", "stride", "dilation", "size"),
    list(itertools.product((1, 2, 3, 5, 7), (1, 2), (1, 2), (11, 12))),
)
def test_no_row_that_is_read_is_left_out(kernel, stride, dilation, size):
    """Against gradients: a row is read if the output's rows depend on it."""
    rng = np.random.default_rng([kernel, stride, dilation, size])
    padding = dilation * (kernel - 1) // 2
    conv = nn.Conv2d(1, 1, kernel, stride, padding, dilation)
    nn.init.ones_(conv.weight)
    x = torch.zeros(1, 1, size, size, requires_grad=True)
    y = conv(x)
    height = y.shape[2]
    shape = ConvShape(
        (kernel, kernel), (stride, stride), 1, 1, 1, tuple(y.shape[2:]), (dilation, dilation)
    )
    rows = int(rng.integers(1, height + 1))
    band = BandMask(int(rng.integers(0, height - rows + 1)), rows)
    (gradient,) = torch.autograd.grad(y[:, :, band.first : band.first + rows].sum(), x)
    wanted = gradient[0, 0].any(1).numpy()
    found = rows_read(shape, band, size).mask((size, size), (size, size))[:, 0]
    assert found[wanted].all()
    if stride == 1 and kernel % 2:
        assert found.sum() == np.flatnonzero(wanted).max() - np.flatnonzero(wanted).min() + 1


@pytest.mark.parametrize(("name", "model", "lengths"), list(networks())[:4])
def test_the_shortcut_alone_is_left_where_a_branch_is_skipped(name, model, lengths):
    """Masks on all layers of a branch do what the last one's alone does."""
    torch.manual_seed(1)
    x = torch.randn(2, 3, SIZE, SIZE)
    layers = find_layers(settled(model, x), x)
    shapes = {layer.name: layer.shape for layer in layers}
    rng = np.random.default_rng(7)
    every, last = {}, {}
    for branch in branches(layers):
        height = shapes[branch[-1]].output[0]
        rows = int(rng.integers(1, height + 1))
        band = BandMask(int(rng.integers(0, height - rows + 1)), rows)
        for layer, exact in band_of_branch(branch, shapes, band).items():
            every[layer] = exact.mask(shapes[layer].output, (SIZE, SIZE)), "zero"
        last[branch[-1]] = every[branch[-1]]
    with MaskedNetwork(model, layers, "norm").attached() as network, torch.no_grad():
        outputs = []
        for masks in (every, last, {}):
            network.set_masks(masks)
            outputs.append(model(x))
    torch.testing.assert_close(outputs[0], outputs[1])
    assert not torch.allclose(outputs[0], outputs[2], rtol=0.01)


def test_options_of_a_branch_leave_out_nothing_that_is_read():
    """Whatever the pattern: the layers before the last one may be skipped where nobody looks."""
    torch.manual_seed(2)
    x = torch.randn(2, 3, SIZE, SIZE)
    model = settled(timm.create_model("tf_efficientnet_lite0", num_classes=5), x)
    layers = find_layers(model, x)
    by_name = {layer.name: layer for layer in layers}
    plain = [PlanLayer(layer.name, layer.shape, at) for at, layer in enumerate(layers)]
    tried = 0
    with MaskedNetwork(model, layers, "norm").attached() as network, torch.no_grad():
        for unit in plan_units(plain, branches(layers)):
            if not unit.branch:
                continue
            options = unit_options(
                unit, (SIZE, SIZE), patterns=("band", "lattice"), fills=("zero",), by_time=False
            )
            assert options[0].parts == (DENSE,) * len(unit.layers)
            for option in options[1:]:
                masks = {
                    layer.name: (
                        part.exact.mask(by_name[layer.name].shape.output, (SIZE, SIZE)),
                        part.fill,
                    )
                    for layer, part in zip(unit.layers, option.parts, strict=True)
                    if part.sparsity
                }
                network.set_masks(masks)
                all_layers = model(x)
                end = unit.layers[-1].name
                network.set_masks({end: masks[end]})
                torch.testing.assert_close(model(x), all_layers)
                tried += 1
    assert tried > 50


@pytest.mark.parametrize("sparsity", [0.25, 0.5, 0.75])
def test_pattern_band_masks_residual_branches_alone(sparsity):
    model = mobilenet_v2(num_classes=5).eval()
    x = torch.zeros(1, 3, SIZE, SIZE)
    sparsifier = Sparsifier(model, x, sparsity, pattern="band")
    sparsifier.freeze()
    found = {layer.name: layer for layer in sparsifier.layers}
    layers = find_layers(mobilenet_v2(num_classes=5).eval(), x)
    shapes = {layer.name: layer.shape for layer in layers}
    masks = {name: held.mask for name, held in held_masks(model).items()}
    ends = []
    for branch in branches(layers):
        assert set(branch) <= set(found)
        kept = np.flatnonzero(masks[branch[-1]].any(1))
        height = len(masks[branch[-1]])
        assert len(kept) == max(1, height - round(sparsity * height))
        bands = band_of_branch(branch, shapes, BandMask(int(kept[0]), len(kept)))
        for name, band in bands.items():
            assert np.array_equal(masks[name], band.mask(shapes[name].output, (SIZE, SIZE)))
        if height > 2:
            ends.append(int(kept[0]) == 0)
    assert len(found) == sum(len(branch) for branch in branches(layers))
    assert any(ends)
    assert not all(ends)  # what one block leaves out another computes


def test_pattern_band_says_what_it_needs():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())
    with pytest.raises(ActivsparseError, match="in no residual branch"):
        Sparsifier(net, torch.zeros(1, 3, 16, 16), 0.5, pattern="band")
