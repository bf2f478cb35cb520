"""Whole networks: masks put into their ONNX files against masks multiplied in torch."""

from functools import partial

import numpy as np
import onnx
import pytest
import torch
from onnx_models import run

from activsparse.export.insert import find_masks
from activsparse.export.mask import mask_model
from activsparse.export.onnx import convert

models = pytest.importorskip("torchvision.models")
pytestmark = pytest.mark.slow


def multiply(mask, module, inputs, output):
    return output * mask


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2"])
def test_equals_torch_with_masks(name):
    torch.manual_seed(0)
    model = getattr(models, name)(num_classes=10).eval()
    x = torch.randn(1, 3, 96, 64)
    dense = convert(model, x, verify=False).model
    masked, report = mask_model(dense, 0.3)
    assert report.each_once == pytest.approx(0.3, abs=0.03)
    assert len(find_masks(masked.graph)) == len(report.layers)

    constants = {t.name: t for t in masked.graph.initializer}
    modules = dict(model.named_modules())
    names = list(modules)
    for layer in report.layers:
        mask = onnx.numpy_helper.to_array(constants[f"{layer.name}.activation_mask"]).copy()
        following = modules[names[names.index(layer.name) + 1]]
        norm = isinstance(following, torch.nn.BatchNorm2d)
        host = following if norm else modules[layer.name]
        host.register_forward_hook(partial(multiply, torch.from_numpy(mask)))
    with torch.no_grad():
        expected = model.double()(x.double()).numpy()
    # Rounding grows with depth; at most a few hundred ulp of the largest output after 80 layers.
    bound = 2000 * np.finfo(np.float32).eps * np.abs(expected).max()
    np.testing.assert_allclose(run(masked, x.numpy()), expected, atol=bound)
    assert np.abs(run(dense, x.numpy()) - expected).max() > 10 * bound
