"""Exported models, made once for all tests."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest


def build_model(name: str, size: int):
    """A torchvision model with random weights whose norms hold statistics that matter."""
    import torch
    import torchvision
    from torch import nn

    torch.manual_seed(0)
    model = getattr(torchvision.models, name)(weights=None)
    if name == "vgg11_bn" and size == 64:
        # Its 7x7 pooling would have to enlarge the 2x2 image; the classifier takes that instead.
        model.avgpool = nn.Identity()
        model.classifier = nn.Sequential(
            nn.Linear(512 * 4, 128), nn.ReLU(), nn.Dropout(), nn.Linear(128, 10)
        )
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.uniform_(norm.weight, 0.5, 1.5)
        nn.init.normal_(norm.bias, 0, 0.2)
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(torch.randn(4, 3, size, size))
    return model.eval()


def mask_layers(model, site: str, fill: str) -> None:
    """Register masks on every convolution but the stem, as activsparse.train does."""
    import torch
    from torch import nn

    from activsparse.masks import nearest_source, propagate, random_score, select

    layers = dict(model.named_modules())
    sizes: dict[str, tuple[int, int]] = {}
    kind = nn.BatchNorm2d if site == "norm" else nn.Conv2d
    hosts = {name: layer for name, layer in layers.items() if isinstance(layer, kind)}

    def note(name):
        return lambda module, args, out: sizes.__setitem__(name, tuple(out.shape[2:]))

    hooks = [layer.register_forward_hook(note(name)) for name, layer in hosts.items()]
    model(torch.randn(1, 3, 64, 64))
    for hook in hooks:
        hook.remove()
    import numpy as np

    score = random_score((64, 64), np.random.default_rng(0))
    for name in list(hosts)[1:]:
        mask = select(propagate(score, sizes[name]), 0.3)
        if fill == "zero":
            value = torch.from_numpy(mask).float()[None, None]
            hosts[name].register_buffer("activation_mask", value)
            hosts[name].register_forward_hook(_multiply)
        else:
            source = torch.from_numpy(nearest_source(mask).astype(np.int64))
            hosts[name].register_buffer("activation_source", source)
            hosts[name].register_forward_hook(_gather)


def _multiply(module, args, out):
    return out * module.activation_mask


def _gather(module, args, out):
    return out.flatten(2).index_select(2, module.activation_source).reshape(out.shape)


def export(model, path: Path, size: int) -> Path:
    import torch

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            model,
            (torch.randn(1, 3, size, size),),
            path,
            dynamo=True,
            opset_version=18,
            external_data=False,
            verbose=False,
        )
    return path


@pytest.fixture(scope="session")
def build():
    """`build_model`, which tests cannot import: other folders have a conftest too."""
    return build_model


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Give paths of torchvision models: get(name), or with masks get(name, site, fill)."""
    folder = tmp_path_factory.mktemp("models")
    made: dict[tuple, Path] = {}

    def get(name: str, site: str = "", fill: str = "", size: int = 64) -> Path:
        pytest.importorskip("torch")
        key = (name, site, fill, size)
        if key not in made:
            path = folder / f"{'_'.join(map(str, key))}.onnx"
            model = build_model(name, size)
            if site:
                mask_layers(model, site, fill)
            made[key] = export(model, path, size)
        return made[key]

    return get
