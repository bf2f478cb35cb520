"""A network in torch and the file exported from it are masked alike, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import pytest
import torch
from older_exporter import from_script

from activsparse.export.convs import BLUR, find_convs
from activsparse.export.mask import mask_model
from activsparse.export.onnx import convert
from activsparse.export.read import read_masks
from activsparse.models.yolov5 import YoloV5
from activsparse.train import Sparsifier
from activsparse.train.sparsify.layers import find_layers

# By library; images have 64 pixels. These are exported and masked in a second or two each.
FAST = {
    "torchvision": ("resnet18", "mobilenet_v3_small", "squeezenet1_1"),
    "timm": ("resnet18d", "lcnet_050", "spnasnet_100"),
}
SLOW = {
    "torchvision": (
        "deeplabv3_mobilenet_v3_large",
        "densenet121",
        "efficientnet_b0",
        "fcn_resnet50",
        "googlenet",
        "inception_v3",
        "lraspp_mobilenet_v3_large",
        "mnasnet0_5",
        "mobilenet_v2",
        "mobilenet_v3_large",
        "resnet50",
        "resnext50_32x4d",
        "shufflenet_v2_x0_5",
        "vgg11_bn",  # its pooling grows maps of 64 pixels, which is written as sums
        "wide_resnet50_2",
    ),
    "timm": (
        "convnext_atto",
        "cspdarknet53",
        "cspresnet50",
        "cspresnext50",
        "darknet53",
        "dla34",
        "dpn48b",
        "eca_resnet33ts",
        "ecaresnet26t",
        "edgenext_xx_small",
        "efficientnet_lite0",
        "ese_vovnet19b_dw",
        "fastvit_t8",
        "fbnetc_100",
        "gcresnext26ts",
        "ghostnet_100",
        "hardcorenas_a",
        "hrnet_w18_small",
        "legacy_xception",
        "mixnet_s",
        "mobilenetv3_rw",
        "mobilenetv3_small_050",
        "mobilenetv4_conv_small",
        "mobileone_s0",
        "nfnet_l0",
        "regnetx_002",
        "regnety_002",
        "repvgg_a0",
        "res2net50_26w_4s",
        "resnest14d",
        "resnet26d",
        "resnet26t",
        "resnetblur18",
        "rexnet_100",
        "selecsls42b",
        "semnasnet_075",
        "seresnet33ts",
        "seresnext26d_32x4d",
        "seresnext26t_32x4d",
        "skresnet18",
        "tf_efficientnet_b0",
        "tf_efficientnet_lite0",
        "tf_efficientnetv2_b0",
        "tinynet_e",
        "tresnet_m",
        "vovnet39a",
    ),
    "activsparse": ("yolov5n",),
}
SIZE = 64
LARGER = {"inception_v3": 96}
# Left out: torch's older exporter fails on botnet26t_256, halonet26t and bat_resnext26ts.


def build(library, name):
    torch.manual_seed(0)
    if library == "activsparse":
        return YoloV5(3).eval()
    if library == "timm":
        return pytest.importorskip("timm").create_model(name, pretrained=False).eval()
    options = {"weights": None}
    if name.startswith(("deeplab", "fcn", "lraspp")):
        options["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        options["init_weights"] = False
    models = pytest.importorskip("torchvision").models
    return models.get_model(name, **options).eval()


def role(layer):
    return next((kind for kind in ("stem", "shortcut", "head") if getattr(layer, kind)), "layer")


def seen(layer):
    # What cannot be masked need not keep its name in a file.
    name = None if layer.problem else layer.name
    return name, role(layer), layer.phase, layer.source, layer.added, layer.problem


def is_part(layer):
    return layer.problem is not None and layer.problem.startswith("added to ")


def list_of(networks):
    return [(library, name) for library, names in networks.items() for name in names]


@pytest.mark.parametrize(("library", "name"), list_of(FAST))
def test_files_with_folded_norms_have_the_same_layers(library, name):
    model, x = build(library, name), torch.zeros(1, 3, SIZE, SIZE)
    layers, convs = find_layers(model, x), find_convs(from_script(model, x))
    # Folding takes the weights' names; the order is the same.
    names = {c.name: layer.name for c, layer in zip(convs, layers, strict=True)}
    convs = [replace(c, name=names[c.name], source=names.get(c.source)) for c in convs]
    assert [seen(conv) for conv in convs] == [seen(layer) for layer in layers]
    assert [c.shape for c in convs if c.shape] == [a.shape for a in layers if not a.problem]


def with_own_norms(model):
    """Its norms differ, as trained ones do: of two equal ones the exporter makes one."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module.weight is not None:
            module.weight.data.uniform_(0.5, 1.5, generator=generator)
    return model


def masked_alike(library, name, patterns, tmp_path):
    size = LARGER.get(name, SIZE)
    model, x = with_own_norms(build(library, name)), torch.zeros(1, 3, size, size)
    layers = find_layers(model, x)
    proto = convert(model, x, verify=False).model
    # Convolutions over one axis, as over channels, and blurs are no layers in torch.
    no_layers = ("not a convolution over height and width", BLUR)
    convs = [conv for conv in find_convs(proto, sums=True) if conv.problem not in no_layers]
    assert [seen(c) for c in convs if not is_part(c)] == [seen(a) for a in layers if not is_part(a)]
    # Branches of a sum come in another order, and are masked with it.
    assert sum(map(is_part, convs)) == sum(map(is_part, layers))
    for pattern in patterns:
        sparsifier = Sparsifier(model, x, 0.3, pattern=pattern)
        wanted = sparsifier.masks()
        sparsifier.detach()
        masked, _ = mask_model(proto, 0.3, pattern=pattern)
        onnx.save(masked, tmp_path / "masked.onnx")
        found = read_masks(tmp_path / "masked.onnx")
        assert list(found) == list(wanted)
        for layer, mask in found.items():
            np.testing.assert_array_equal(mask, wanted[layer], err_msg=f"{pattern} {layer}")


def test_masks_are_the_same(tmp_path):
    masked_alike("timm", "resnet18d", ("tiles",), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("library", "name"), list_of(FAST) + list_of(SLOW))
def test_masks_of_many_networks_are_the_same(library, name, tmp_path):
    masked_alike(library, name, ("auto", "lattice", "tiles"), tmp_path)


def test_the_list_is_long_enough():
    assert len(set(list_of(FAST) + list_of(SLOW))) >= 60
