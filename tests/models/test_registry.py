from __future__ import annotations

import copy
import math

import pytest
import timm
import torch
from torch import nn

from activsparse import ActivsparseError
from activsparse.models import build_model, load_weights
from activsparse.models.weights import fill_in
from activsparse.train import Sparsifier


def count(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def test_small_resnet_is_the_network_of_the_first_study():
    model = build_model("small_resnet", 10, in_channels=1)
    assert 0.17e6 <= count(model) <= 0.18e6
    assert model(torch.zeros(2, 1, 28, 28)).shape == (2, 10)
    sparsifier = Sparsifier(model, torch.zeros(1, 1, 28, 28))
    assert {layer.shape for layer in sparsifier.layers} == {(28, 28), (14, 14), (7, 7)}
    wide = build_model("small_resnet", 3, in_channels=3, widths=[8, 16], blocks=[1, 1])
    assert wide(torch.zeros(1, 3, 17, 23)).shape == (1, 3)


FAMILIES = [
    *("resnet18", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1", "efficientnet_b0"),
    *("regnet_y_400mf", "timm:resnet10t"),
]
LARGE = ["resnet34", "resnet50", "vgg11_bn", "mobilenet_v3_large", "timm:mobilenetv3_small_050"]


@pytest.mark.parametrize(
    "name", [*FAMILIES, *(pytest.param(n, marks=pytest.mark.slow) for n in LARGE)]
)
def test_families_are_built_masked_and_trained(name):
    model = build_model(name, 7, in_channels=1)
    images = torch.randn(2, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    sparsifier = Sparsifier(model, images, 0.3, pattern="random")
    assert sparsifier.layers
    logits = model(images)
    assert logits.shape == (2, 7)
    nn.functional.cross_entropy(logits, torch.tensor([1, 3])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("stages", [None, [1, 2]])
def test_a_classifier_on_the_features_of_a_timm_model(stages, monkeypatch):
    """The same features, the head behind them; published weights go where they belong."""
    options = {"features_only": True, **({} if stages is None else {"out_indices": stages})}
    model = build_model("timm:resnet10t", 7, in_channels=1, small_images=True, **options).eval()
    images = torch.randn(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = model.features(images)[-1].flatten(2).mean(2) @ model.head.weight.T
    torch.testing.assert_close(model(images), expected + model.head.bias)
    names = {layer.name for layer in Sparsifier(model, images, 0.3).layers}
    assert any("layer2" in name for name in names)
    assert any("layer4" in name for name in names) == (stages is None)

    published = timm.create_model("resnet10t", **options)
    monkeypatch.setattr(timm, "create_model", lambda *a, **k: copy.deepcopy(published))
    trained = build_model("timm:resnet10t", 7, "default", **options)
    for key, value in published.state_dict().items():
        assert torch.equal(trained.features.state_dict()[key], value), key


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("resnet18", (32, 32)),
        ("mobilenet_v2", (32, 32)),
        ("squeezenet1_1", (32, 32)),
        ("timm:resnet10t", (32, 32)),
        ("small_resnet", (32, 32)),
    ],
)
def test_stems_for_small_images_keep_the_resolution(name, shape):
    model = build_model(name, 10, small_images=True)
    sparsifier = Sparsifier(model, torch.zeros(1, 3, 32, 32), 0.3)
    assert sparsifier.layers[0].shape == shape
    assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_stem_weights_are_fitted():
    torch.manual_seed(0)
    source = build_model("resnet18", 5)
    small = build_model("resnet18", 5, in_channels=1, small_images=True)
    fill_in(small, source.state_dict(), "resnet18")
    middle = source.conv1.weight[:, :, 2:5, 2:5]
    torch.testing.assert_close(small.conv1.weight, middle.sum(1, keepdim=True))
    grey = torch.randn(1, 1, 9, 9)
    colour = nn.functional.conv2d(grey.expand(1, 3, 9, 9), middle, padding=1)
    torch.testing.assert_close(small.conv1(grey), colour, rtol=1e-5, atol=1e-6)
    assert torch.equal(small.layer1[0].conv1.weight, source.layer1[0].conv1.weight)


def test_an_import_path(monkeypatch, tmp_path):
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\n"
        "def net(num_classes, in_channels, width=2):\n"
        "    return nn.Conv2d(in_channels, num_classes * width, 3)\n"
        "def wrong(num_classes):\n"
        "    return num_classes\n"
        "class Picture(nn.Conv2d):\n"
        "    def __init__(self, in_channels=3):\n"
        "        super().__init__(in_channels, 3, 3)\n"
        "made = Picture()\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    model = build_model("my_networks:net", 5, in_channels=1, width=3)
    assert model.weight.shape == (15, 1, 3, 3)
    assert build_model("my_networks:Picture", 5, in_channels=1).weight.shape == (3, 1, 3, 3)
    with pytest.raises(ActivsparseError, match="is a network, not a function or class"):
        build_model("my_networks:made", 5)
    with pytest.raises(ActivsparseError, match="gives a int"):
        build_model("my_networks:wrong", 5)
    with pytest.raises(ActivsparseError, match="cannot be imported"):
        build_model("my_networks:nat", 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet81"}, "did you mean resnet"),
        ({"name": "timm:resnet10x"}, "did you mean timm:resnet10t"),
        ({"name": "resnet18", "depth": 3}, "cannot be built.*model.options"),
        ({"name": "small_resnet", "weights": "default"}, "no published weights"),
    ],
)
def test_bad_requests_are_named(arguments, message):
    with pytest.raises(ActivsparseError, match=message):
        build_model(num_classes=4, **arguments)


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "prefix"])
def test_weights_are_loaded_and_a_head_for_other_classes_is_new(wrap, tmp_path):
    torch.manual_seed(0)
    trained = build_model("small_resnet", 6, in_channels=1)
    Sparsifier(trained, torch.zeros(1, 1, 28, 28))
    state = trained.state_dict()
    content = {
        "plain": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "prefix": {"state_dict": {f"model.module.{k}": v for k, v in state.items()}},
    }[wrap]
    torch.save(content, tmp_path / "weights.pt")
    same = build_model("small_resnet", 6, str(tmp_path / "weights.pt"), in_channels=1)
    assert all(torch.equal(v, state[k]) for k, v in same.state_dict().items())
    other = build_model("small_resnet", 4, str(tmp_path / "weights.pt"), in_channels=1)
    for key, value in other.state_dict().items():
        assert key.startswith("head.") or torch.equal(value, state[key]), key


def test_wrong_weights_are_named(tmp_path):
    model = build_model("small_resnet", 4, in_channels=1)
    with pytest.raises(ActivsparseError, match="no such file"):
        load_weights(model, tmp_path / "none.pt")
    (tmp_path / "text.pt").write_text("hello")
    with pytest.raises(ActivsparseError, match="is not a file of weights"):
        load_weights(model, tmp_path / "text.pt")
    torch.save({"a": 1}, tmp_path / "empty.pt")
    with pytest.raises(ActivsparseError, match="holds no weights"):
        load_weights(model, tmp_path / "empty.pt")
    wide = build_model("small_resnet", 4, in_channels=1, widths=[8, 32, 64])
    torch.save(wide.state_dict(), tmp_path / "wide.pt")
    with pytest.raises(ActivsparseError, match=r"conv1.weight has shape \(8, 1, 3, 3\)"):
        load_weights(model, tmp_path / "wide.pt")


def test_a_new_head_is_told_of_once(tmp_path, caplog):
    file = tmp_path / "weights.pt"
    torch.save(build_model("small_resnet", 4).state_dict(), file)
    with caplog.at_level("INFO", logger="activsparse"):
        for _ in range(3):
            assert not load_weights(build_model("small_resnet", 5), file)
    (told,) = [text for text in caplog.messages if "starts anew" in text]
    assert str(file) in told


def test_a_new_head_says_nothing_yet(tmp_path):
    """Timm draws it for a thousand classes whatever their number: sure answers, and wrong."""
    torch.manual_seed(0)
    name, file = "timm:tf_efficientnet_lite0", tmp_path / "weights.pt"
    published = build_model(name, 1000)
    torch.save(published.state_dict(), file)
    model = build_model(name, 2).train()
    assert not load_weights(model, file)
    images, labels = torch.randn(16, 3, 64, 64), torch.arange(16) % 2
    loss = torch.nn.functional.cross_entropy(model(images), labels)
    assert loss.item() == pytest.approx(math.log(2), abs=0.15)
    assert torch.equal(model.conv_stem.weight, published.conv_stem.weight)
    other = build_model(name, 1000)
    assert load_weights(other, file)
    assert torch.equal(other.classifier.weight, published.classifier.weight)


def test_a_detector_of_other_classes_gets_new_heads(tmp_path, caplog):
    torch.manual_seed(0)
    file = tmp_path / "weights.pt"
    published = build_model("yolov5n", 4)
    torch.save(published.state_dict(), file)
    model = build_model("yolov5n", 2)
    with caplog.at_level("INFO", logger="activsparse"):
        assert not load_weights(model, file)
    assert "head.convs starts anew" in caplog.text
    theirs = published.state_dict()
    for key, value in model.state_dict().items():
        assert torch.equal(value, theirs[key]) == (not key.startswith("head.convs")), key
    with pytest.raises(ActivsparseError, match=r"has shape"):
        load_weights(build_model("yolov5s", 2), file)
