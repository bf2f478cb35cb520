"""Deep stems and projections behind a pooling stay dense, in modules and in files."""

import io

import onnx
import pytest
import torch

from activsparse.export.convs import find_convs
from activsparse.train.sparsify.layers import find_layers

NETWORKS = {
    "resnet18d": (3, 3),
    "resnet26t": (3, 4),
    "seresnext26d_32x4d": (3, 4),
    "resnet18": (1, 3),
    "inception_v3": (3, 0),
    "mobilenetv2_100": (1, 0),
    "vgg11_bn": (1, 0),
}


def _roles(name):
    torch.manual_seed(0)
    model = pytest.importorskip("timm").create_model(name).eval()
    image = torch.zeros(1, 3, 128, 128)
    layers = find_layers(model, image)
    return model, image, layers


@pytest.mark.parametrize("name", ["resnet18d", "resnet18", "mobilenetv2_100", "vgg11_bn"])
def test_stems_and_projections_of_modules(name):
    _, _, layers = _roles(name)
    stem, shortcuts = NETWORKS[name]
    assert [layer.stem for layer in layers] == [True] * stem + [False] * (len(layers) - stem)
    found = [layer.name for layer in layers if layer.shortcut]
    assert len(found) == shortcuts
    assert all("downsample" in layer for layer in found)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_files_have_the_same_roles(name):
    model, image, layers = _roles(name)
    program = torch.onnx.export(model, (image,), None, dynamo=True, verbose=False)
    file = io.BytesIO(program.model_proto.SerializeToString())
    roles = {conv.name: conv.role for conv in find_convs(onnx.load(file))}
    stem, shortcuts = NETWORKS[name]
    assert sum(role == "stem" for role in roles.values()) == stem
    assert sum(role == "shortcut" for role in roles.values()) == shortcuts
    for layer in layers:
        assert (roles[layer.name] == "stem") == layer.stem, layer.name
        assert (roles[layer.name] == "shortcut") == layer.shortcut, layer.name
