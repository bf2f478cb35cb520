"""Models as training leaves them: large maps, pruned weights, wrappers, lost and averaged masks."""

import copy
import threading

import numpy as np
import pytest
import torch
import torchvision
from onnx_models import run
from torch import nn
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from activsparse import ActivsparseError
from activsparse.export.bake import bake
from activsparse.export.insert import find_masks
from activsparse.export.onnx import convert, export_onnx, without_masks
from activsparse.export.read import read_masks
from activsparse.train import Sparsifier


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.conv = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(6)
        self.last = nn.Conv2d(6, 4, 3, padding=1)

    def forward(self, x):
        return self.last(self.norm(self.conv(self.stem(x).relu())).relu())


def _sparse(size=24, sparsity=0.4, **options):
    torch.manual_seed(0)
    model, image = Net().eval(), torch.randn(1, 3, size, size)
    return model, image, Sparsifier(model, image, sparsity, pattern="lattice", **options)


def _check(folder, model, image, sparsifier, **options):
    """Export: every mask as the Sparsifier holds it, and the numbers of the model itself."""
    exported = export_onnx(model, image, folder / "m.onnx", **options)
    assert {node.domain for node in exported.model.graph.node} <= {""}
    wanted = sparsifier.masks()
    for masks in (exported.masks, read_masks(folder / "m.onnx")):
        assert masks.keys() == wanted.keys()
        for name, mask in wanted.items():
            np.testing.assert_array_equal(masks[name], mask)
    assert not find_masks(without_masks(exported.model).graph)
    assert exported.check.passed
    return exported


@pytest.mark.parametrize("site", ["norm", "conv"])
@pytest.mark.parametrize("fill", ["zero", "nearest", "auto"])
def test_no_mask_is_too_large(fill, site, tmp_path):
    # torch's folding passes stop at 8,192 elements in, 262,144 out.
    model, image, sparsifier = _sparse(130, fill=fill, site=site)
    exported = _check(tmp_path, model, image, sparsifier, dynamic_batch=True)
    images = torch.randn(3, 3, 130, 130)
    with torch.no_grad():
        expected = model(images).numpy()
    np.testing.assert_allclose(run(exported.model, images.numpy()), expected, atol=1e-4)


ARCHITECTURES = {
    "resnet18": lambda: torchvision.models.resnet18(num_classes=5),
    "mobilenet_v2": lambda: torchvision.models.mobilenet_v2(num_classes=5),
    "efficientnet_b0": lambda: pytest.importorskip("timm").create_model("efficientnet_b0"),
    "lite0": lambda: pytest.importorskip("timm").create_model("tf_efficientnet_lite0"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("fill", "site"), [("nearest", "norm"), ("auto", "conv")])
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_networks_at_224_pixels(name, fill, site, tmp_path):
    torch.manual_seed(0)
    model, image = ARCHITECTURES[name]().eval(), torch.randn(1, 3, 224, 224)
    sparsifier = Sparsifier(model, image, 0.3, pattern="lattice", fill=fill, site=site)
    _check(tmp_path, model, image, sparsifier, dynamic_batch=site == "conv")


def _prune(model):
    prune.l1_unstructured(model.conv, "weight", 0.3)
    prune.ln_structured(model.last, "weight", 0.5, 2, 0)
    model(torch.randn(1, 3, 24, 24)).sum().backward()


def _parametrise(model):
    parametrizations.weight_norm(model.conv)
    parametrizations.spectral_norm(model.last)


def _normalise(model):
    weight_norm(model.conv)
    spectral_norm(model.last)


def _keep_a_result(model):
    model.seen = {"last": [model(torch.randn(1, 3, 24, 24))]}


def _compile_a_part(model):
    model.conv = torch.compile(model.conv, backend="eager")


@pytest.mark.filterwarnings("ignore:`torch.nn.utils")
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "change", [_prune, _parametrise, _normalise, _keep_a_result, _compile_a_part]
)
def test_weights_computed_in_training_are_plain_in_a_copy(change, first, tmp_path):
    torch.manual_seed(0)
    model, image = Net().train(), torch.randn(1, 3, 24, 24)
    if first:
        change(model)
    sparsifier = Sparsifier(model, image, 0.4, pattern="lattice")
    if not first:
        change(model)
    keys = list(model.state_dict())
    baked = bake(model)
    assert {"conv.weight", "last.weight"} <= dict(baked.named_parameters()).keys()
    assert list(model.state_dict()) == keys
    model.eval()
    with torch.no_grad():
        torch.testing.assert_close(baked(image), model(image))
    if change is _prune or (change is _compile_a_part and not first):
        _check(tmp_path, model, image, sparsifier)


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_wrapped_models(wrap, tmp_path):
    model, image, sparsifier = _sparse()
    _check(tmp_path, wrap(model), image, sparsifier)


@pytest.mark.parametrize("kind", ["tuple", "dict"])
def test_several_outputs(kind, tmp_path):
    class Several(Net):
        def forward(self, x):
            y = super().forward(x)
            return (y, [2 * y]) if kind == "tuple" else {"b": y, "a": y + 1}

    model, image = Several().eval(), torch.randn(1, 3, 24, 24)
    _check(tmp_path, model, image, Sparsifier(model, image, 0.4, pattern="lattice"))


def test_what_cannot_be_exported_is_one_line():
    model, image, _ = _sparse()
    fused = copy.deepcopy(model)
    fused.conv, fused.norm = nn.utils.fuse_conv_bn_eval(fused.conv, fused.norm), nn.Identity()
    average = copy.deepcopy(model)
    average.norm.activation_mask[0, 0, 0, 0] = 0.9
    meta = copy.deepcopy(model).to("meta")
    locked = copy.deepcopy(model)
    locked.lock = threading.Lock()
    for wrong, of, message in (
        (fused, image, "layer conv: its mask is lost"),
        (average, image, r"layer conv: .*average of several masks.*copy_masks_to"),
        (meta, image, "stem.weight has no values yet"),
        (locked, image, "cannot be copied for the export"),
        (model, torch.randn(1, 3, 32, 32), "masks belong to one input size"),
    ):
        with pytest.raises(ActivsparseError, match=message) as caught:
            convert(wrong, of)
        assert "\n" not in str(caught.value)
