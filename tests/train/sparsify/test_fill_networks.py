"""A training step of networks users have under every fill, against the plain formula."""

from __future__ import annotations

import copy
import itertools
import os
import random
import zlib

import pytest
import torch
import torchvision
from torch import nn

from activsparse.masks import nearest_source
from activsparse.masks.stored import SOURCE
from activsparse.models import YoloV5
from activsparse.train import Sparsifier


def _timm(name):
    return pytest.importorskip("timm").create_model(name, num_classes=3)


NETWORKS = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=3),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=3, dropout=0.0),
    "vgg11_bn": lambda: torchvision.models.vgg11_bn(num_classes=3, dropout=0.0).features,
    "timm resnet18": lambda: _timm("resnet18"),
    "timm efficientnet_b0": lambda: _timm("efficientnet_b0"),
    "yolov5n": lambda: YoloV5(num_classes=3),
}
LAYOUTS = {"nchw": torch.contiguous_format, "channels last": torch.channels_last}
PRODUCT = list(
    itertools.product(
        NETWORKS,
        ("zero", "nearest", "auto"),
        ("random", "lattice", "tiles", "auto"),
        ("norm", "conv"),
        LAYOUTS,
        (torch.float32, torch.bfloat16),
    )
)
# What networks of each library crashed on, and every other value of every option.
FAST = [
    ("resnet18", "nearest", "lattice", "norm", "channels last", torch.float32),
    ("mobilenet_v2", "auto", "random", "conv", "channels last", torch.float32),
    ("timm resnet18", "auto", "tiles", "norm", "channels last", torch.float32),
    ("yolov5n", "nearest", "auto", "norm", "channels last", torch.float32),
    ("mobilenet_v2", "zero", "lattice", "conv", "nchw", torch.bfloat16),
]

# All of it takes an hour: ACTIVSPARSE_ALL_FILLS=1.
ALL = os.environ.get("ACTIVSPARSE_ALL_FILLS") == "1"
SOME = PRODUCT if ALL else random.Random(0).sample(PRODUCT, 36)


def _in_plain_torch(dense: nn.Module, sparse: nn.Module, sparsifier: Sparsifier) -> None:
    """Give `dense` the masks of `sparse` by the formula, in the layout of each output."""
    masks = sparsifier.masks()
    for layer in sparsifier.layers:
        mask = torch.from_numpy(masks[layer.name])
        source = None
        if SOURCE in dict(sparse.get_submodule(layer.host).named_buffers()):
            source = torch.from_numpy(nearest_source(masks[layer.name])).long()

        def fill(module, args, output, mask=mask, source=source):
            if source is None:
                return torch.where(mask, output, torch.zeros_like(output))
            filled = output.flatten(2)[:, :, source].reshape(output.shape)
            last = output.is_contiguous(memory_format=torch.channels_last)
            layout = torch.channels_last if last else torch.contiguous_format
            return filled.contiguous(memory_format=layout)

        dense.get_submodule(layer.host).register_forward_hook(fill)


def _step(network, images, dtype):
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        outputs = network(images)
    outputs = outputs if isinstance(outputs, list | tuple) else [outputs]
    # Not the mere sum, which is constant in what a norm gives.
    sum((output.float() ** 2).mean() for output in outputs).backward()
    return outputs


def _apart(got, expected) -> float:
    """Distance of two lists of tensors over the second's length."""
    difference = sum(((a - b).double() ** 2).sum() for a, b in zip(got, expected, strict=True))
    return float((difference / sum((b.double() ** 2).sum() for b in expected)).sqrt().detach())


def check(name, fill, pattern, site, layout, dtype):
    seed = zlib.crc32(repr((name, fill, pattern, site, layout, dtype)).encode()) % 1000
    torch.manual_seed(seed)
    size = 64
    print(f"seed {seed}, images (2, 3, {size}, {size})")
    sparse = NETWORKS[name]().train().to(memory_format=LAYOUTS[layout])
    dense = copy.deepcopy(sparse)
    options = {"pattern": pattern, "fill": fill, "site": site}
    sparsifier = Sparsifier(sparse, torch.zeros(1, 3, size, size), 0.3, **options)
    _in_plain_torch(dense, sparse, sparsifier)
    images = torch.randn(2, 3, size, size).to(memory_format=LAYOUTS[layout])

    torch.manual_seed(0)
    got = _step(sparse, images, dtype)
    torch.manual_seed(0)
    expected = _step(dense, images, dtype)
    # Both copy the same values; a sum over the positions one is given to is rounded in another
    # order, and the layers below multiply that by their condition.
    eps = torch.finfo(dtype).eps
    assert _apart(got, expected) <= 4 * eps
    gradients = [[p.grad for p in net.parameters()] for net in (sparse, dense)]
    assert all(bool(g.isfinite().all()) for g in gradients[0])
    assert _apart(*gradients) <= 64 * eps


@pytest.mark.parametrize(("name", "fill", "pattern", "site", "layout", "dtype"), FAST)
def test_a_training_step_agrees_with_the_formula(name, fill, pattern, site, layout, dtype):
    check(name, fill, pattern, site, layout, dtype)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fill", "pattern", "site", "layout", "dtype"), SOME)
def test_every_step_agrees_with_the_formula(name, fill, pattern, site, layout, dtype):
    check(name, fill, pattern, site, layout, dtype)
