"""What a file spells out: frozen norms, computed weights, layers that run several times, blurs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from older_exporter import from_script
from torch import nn

from activsparse.engine.session import Session
from activsparse.engine.verify import compare_with_onnxruntime
from activsparse.export.convs import BLUR, find_convs
from activsparse.export.mask import mask_model
from activsparse.export.onnx import convert
from activsparse.export.read import read_masks
from activsparse.train import Sparsifier
from activsparse.train.sparsify.layers import find_layers


class Arithmetic(nn.Module):
    """A convolution, then what is given."""

    def __init__(self, after, bias) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1, bias=bias)
        self.next = nn.Conv2d(4, 4, 3, padding=1)
        self.after = after
        self.register_buffer("a", torch.rand(1, 4, 1, 1) + 0.5)
        self.register_buffer("b", torch.randn(4, 1, 1))

    def forward(self, x):
        return self.next(torch.relu(self.after(self.conv(x), self.a, self.b)))


class Repeated(nn.Module):
    """One layer that runs three times, between others."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        self.again = nn.Conv2d(8, 8, 3, padding=1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(8) for _ in range(3))
        self.last = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        x = self.stem(x).relu()
        for norm in self.norms:
            x = x + norm(self.again(x)).relu()
        return self.last(x)


def place(layer):
    flags = layer.stem, layer.shortcut, layer.head, layer.normed
    return layer.phase, layer.source, layer.added, layer.problem, flags


def masks_alike(model, x, proto, path, fill):
    """A Sparsifier's masks and those of the file, in order; writes the masked file."""
    sparsifier = Sparsifier(model, x, 0.4, pattern="lattice", fill=fill)
    wanted = sparsifier.masks()
    sparsifier.detach()
    masked, _ = mask_model(proto, 0.4, pattern="lattice", fill=fill)
    onnx.save(masked, path)
    return wanted, read_masks(path)


def test_a_frozen_norm_is_a_norm(tmp_path):
    ops = pytest.importorskip("torchvision.ops")
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    model = models.resnet18(norm_layer=ops.FrozenBatchNorm2d).eval()
    for norm in model.modules():
        if isinstance(norm, ops.FrozenBatchNorm2d):
            norm.running_var.uniform_(0.5, 2)
            norm.bias.uniform_(-1, 1)
    x = torch.randn(1, 3, 64, 64)
    proto = convert(model, x, verify=False).model
    layers, convs = find_layers(model, x), find_convs(proto)
    assert [(c.name, *place(c)) for c in convs] == [(y.name, *place(y)) for y in layers]
    assert all(conv.normed for conv in convs)
    for fill in ("zero", "nearest"):
        path = tmp_path / f"{fill}.onnx"
        wanted, found = masks_alike(model, x, proto, path, fill)
        assert list(found) == list(wanted) != []
        for name, mask in found.items():
            np.testing.assert_array_equal(mask, wanted[name], err_msg=name)
        # The engine skips what is masked behind such a norm, and gives ONNX Runtime's numbers.
        session = Session(path, tune=False)
        masked = [report for report in session.explain() if (report.requested or 0) > 0.3]
        assert len(masked) == len(wanted)
        assert all(row.holds for row in compare_with_onnxruntime(path, session))


@pytest.mark.parametrize(
    "bias", [False, True]
)  # a bias has been joined with a norm, or there is none
@pytest.mark.parametrize(
    ("after", "normed"),
    [
        (lambda x, a, b: x * a + b, True),
        (lambda x, a, b: b + a * x, True),
        (lambda x, a, b: (x * a + b) * a + 2 * b, True),  # and then something else
        (lambda x, a, b: (x - b) / a, False),
        (lambda x, a, b: x * a, False),  # a scale alone
        (lambda x, a, b: x + b, False),
        (lambda x, a, b: 0.3 * x + 0.5, False),  # as activations are spelled
        (lambda x, a, b: x * a + b + x, False),  # something else reads the convolution
        (lambda x, a, b: x * x.mean((2, 3), keepdim=True) + b, False),  # computed
    ],
)
def test_which_arithmetic_is_a_norm(after, normed, bias):
    torch.manual_seed(0)
    model = Arithmetic(after, bias).eval()
    conv, _ = find_convs(from_script(model, torch.randn(1, 3, 8, 8)))
    assert conv.normed == (normed and not bias)
    if conv.normed:
        node = from_script(model, torch.randn(1, 3, 8, 8)).graph.node
        first = next(n for n in node if n.op_type == "Add")
        assert conv.norm_output == first.output[0]


def test_a_layer_that_runs_several_times_is_masked_alike(tmp_path):
    torch.manual_seed(0)
    model, x = Repeated().eval(), torch.randn(1, 3, 32, 32)
    proto = convert(model, x, verify=False).model
    layers = {layer.name: place(layer) for layer in find_layers(model, x)}
    assert [place(conv) for conv in find_convs(proto)] == [
        *(layers[name] for name in ("stem", "again", "again", "again", "last")),
    ]
    for fill in ("zero", "nearest"):
        wanted, found = masks_alike(model, x, proto, tmp_path / "masked.onnx", fill)
        assert set(wanted) <= set(found)
        assert len(found) == len(wanted) + 2
        for name, mask in found.items():
            np.testing.assert_array_equal(mask, wanted.get(name, wanted["again"]), err_msg=name)


class Standardised(nn.Conv2d):
    """Weights that are computed of what the layer holds, as those of weight-standardised layers."""

    def forward(self, x):
        mean = self.weight.mean((1, 2, 3), keepdim=True)
        spread = self.weight.std((1, 2, 3), keepdim=True)
        return nn.functional.conv2d(
            x, (self.weight - mean) / spread, self.bias, self.stride, self.padding
        )


class Blurred(nn.Module):
    """A blur that no module stands for, and convolutions whose weights are computed."""

    def __init__(self, channels) -> None:
        super().__init__()
        self.stem = Standardised(3, channels, 3, 2, 1)
        self.conv = Standardised(channels, channels, 3, 2, 1)
        self.next = nn.Conv2d(channels, channels, 3, padding=1)
        taps = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("blur", (taps[:, None] * taps / 16).repeat(channels, 1, 1, 1))

    def forward(self, x):
        x = self.conv(self.stem(x).relu()).relu()
        x = nn.functional.conv2d(x, self.blur, stride=2, padding=1, groups=len(self.blur))
        return self.next(x).relu().mean((2, 3))


@pytest.mark.parametrize("channels", [8, 96])  # small weights are folded by torch, large ones not
def test_computed_weights_have_names_and_blurs_are_no_layers(tmp_path, channels):
    torch.manual_seed(channels)
    model, x = Blurred(channels).eval(), torch.randn(1, 3, 64, 64)
    proto = convert(model, x, verify=False).model
    convs = [conv for conv in find_convs(proto) if conv.problem != BLUR]
    layers = find_layers(model, x)
    assert [(c.name, *place(c)) for c in convs] == [(y.name, *place(y)) for y in layers]
    assert [c.shape for c in convs] == [y.shape for y in layers]
    path = tmp_path / "masked.onnx"
    wanted, found = masks_alike(model, x, proto, path, "nearest")
    assert list(found) == list(wanted) == ["conv", "next"]
    session = Session(path, tune=False)
    assert sum((report.requested or 0) > 0.3 for report in session.explain()) == 2
    assert all(row.holds for row in compare_with_onnxruntime(path, session))


class Odd(nn.Module):
    """Modules that share weights, hold equal ones, are one under two names, or look like blurs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, 2, 1)
        down = nn.Conv2d(8, 8, 3, 2, 1)
        self.body = nn.Sequential(
            down,
            nn.ReLU(),
            nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
        )
        self.body.append(self.body[2])
        self.body[5].weight = self.body[3].weight  # one parameter
        self.body[7].weight = nn.Parameter(self.body[3].weight.detach().clone())  # equal ones
        nn.init.constant_(self.body[9].weight, 1 / 9)

    def forward(self, x):
        return self.body(self.stem(x).relu()).mean((2, 3))


def test_every_module_has_weights_of_its_own_name():
    torch.manual_seed(0)
    model, x = Odd().eval(), torch.randn(1, 3, 32, 32)
    proto = convert(model, x).model  # compared with torch
    layers = {layer.name: place(layer) for layer in find_layers(model, x)}
    convs = find_convs(proto)
    assert [conv.name for conv in convs][:-1] == list(layers)
    assert [place(conv) for conv in convs] == [*layers.values(), layers["body.2.0"]]
    sparsifier = Sparsifier(model, x, 0.4, pattern="lattice")
    wanted = sparsifier.masks()
    sparsifier.detach()
    masked, _ = mask_model(proto, 0.4, pattern="lattice")
    found = {conv.name for conv in find_convs(masked)}
    assert set(wanted) <= found
