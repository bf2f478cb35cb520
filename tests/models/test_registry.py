from __future__ import annotations

import pytest
import torch
from torch import nn

from activsparse import ActivsparseError
from activsparse.models import build_model, load_weights
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


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "timm:resnet10t"])
def test_known_names(name):
    model = build_model(name, 7).eval()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


def test_an_import_path(monkeypatch, tmp_path):
    (tmp_path / "my_networks.py").write_text(
        "from torch import nn\n"
        "def net(num_classes, in_channels, width=2):\n"
        "    return nn.Conv2d(in_channels, num_classes * width, 3)\n"
        "def wrong(num_classes):\n"
        "    return num_classes\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    model = build_model("my_networks:net", 5, in_channels=1, width=3)
    assert model.weight.shape == (15, 1, 3, 3)
    with pytest.raises(ActivsparseError, match="gives a int"):
        build_model("my_networks:wrong", 5)
    with pytest.raises(ActivsparseError, match="cannot be imported"):
        build_model("my_networks:nat", 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet81"}, "did you mean resnet"),
        ({"name": "timm:resnet10x"}, "did you mean resnet10t"),
        ({"name": "resnet18", "in_channels": 1}, "set data.channels to 3"),
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
    torch.save(build_model("small_resnet", 4, in_channels=3).state_dict(), tmp_path / "rgb.pt")
    with pytest.raises(ActivsparseError, match=r"conv1.weight has shape \(16, 3, 3, 3\)"):
        load_weights(model, tmp_path / "rgb.pt")
