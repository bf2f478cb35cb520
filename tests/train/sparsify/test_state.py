"""The Sparsifier's entry in a state dict: what others do with it, old ones, and strange ones."""

from __future__ import annotations

import copy
import io
import pickle

import numpy as np
import pytest
import timm.utils
import torch
from small_networks import example, make_net, train
from torch import nn

from activsparse import ActivsparseError
from activsparse.train import Sparsifier

ENTRY = "sparsifier_state._extra_state"
RANDOM = {"pattern": "random", "total_steps": 8, "begin": 0.0, "end": 0.9, "seed": 3}


def build(weights=0, **options):
    model = make_net(weights)
    return model, Sparsifier(model, example(), **{"sparsity": 0.4, **RANDOM, **options})


def numbers(model):
    state = model.sparsifier_state
    return state.step, state.best_step, state.best_loss, state.frozen


class Yolo:
    """An average as detectors' trainers write it: of all entries of floating point."""

    def __init__(self, model: nn.Module) -> None:
        self.module = copy.deepcopy(model).eval()

    def update(self, model: nn.Module) -> None:
        with torch.no_grad():
            for key, value in self.module.state_dict().items():
                if value.dtype.is_floating_point:
                    value *= 0.9
                    value += 0.1 * model.state_dict()[key].detach()


class Torch(torch.optim.swa_utils.AveragedModel):
    def __init__(self, model: nn.Module) -> None:
        super().__init__(model, use_buffers=True)

    def update(self, model: nn.Module) -> None:
        self.update_parameters(model)


AVERAGES = {
    "timm v2": lambda model: timm.utils.ModelEmaV2(model, 0.9),
    "timm v2 on a device": lambda model: timm.utils.ModelEmaV2(model, 0.9, device="cpu"),
    "timm v3": lambda model: timm.utils.ModelEmaV3(model, 0.9),
    "timm v3 one by one": lambda model: timm.utils.ModelEmaV3(model, 0.9, foreach=False),
    "yolo": Yolo,
    "torch": Torch,
}


@pytest.mark.parametrize("kind", AVERAGES)
def test_averages_leave_the_numbers_alone(kind):
    model, sparsifier = build()
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    train(model, optimizer, sparsifier, 0, 2)
    average = AVERAGES[kind](model)
    copied, first = numbers(average.module), average.module.head.weight.clone()
    for step in range(2, 8):
        train(model, optimizer, sparsifier, step, step + 1)
        average.update(model)
    assert not torch.equal(average.module.head.weight, first), "it averages"
    assert numbers(average.module) == copied
    assert numbers(model) != copied

    sparsifier.copy_masks_to(average.module)
    file = io.BytesIO()
    torch.save(average.module.state_dict(), file)
    file.seek(0)
    other, again = build(1)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert numbers(other) == numbers(model)
    for name, mask in sparsifier.masks().items():
        np.testing.assert_array_equal(again.masks()[name], mask)


@pytest.mark.parametrize("way", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_go_their_own_way(way):
    model, sparsifier = build()
    train(model, torch.optim.SGD(model.parameters(), 0.05), sparsifier, 0, 3)
    twin = way(model)
    assert numbers(twin) == numbers(model)
    assert torch.equal(twin.state_dict()[ENTRY], model.state_dict()[ENTRY])
    sparsifier.step(0.0)
    assert twin.sparsifier_state.step == 3
    assert sparsifier.current_step == 4


def test_the_entry_follows_the_model_to_its_device():
    model, _ = build()
    assert model.to("meta").state_dict()[ENTRY].device.type == "meta"


@pytest.mark.parametrize("stop", [0, 3, 8])
def test_state_dicts_of_the_first_version_still_load(stop):
    """They hold a tensor for each number."""
    model, sparsifier = build()
    train(model, torch.optim.SGD(model.parameters(), 0.05), sparsifier, 0, stop)
    step, best_step, best_loss, frozen = numbers(model)
    old = {key: value.clone() for key, value in model.state_dict().items() if key != ENTRY}
    old |= {
        "sparsifier_state.seed": torch.tensor(3),
        "sparsifier_state.step": torch.tensor(step),
        "sparsifier_state.best_step": torch.tensor(best_step),
        "sparsifier_state.best_loss": torch.tensor(best_loss, dtype=torch.float32),
        "sparsifier_state.frozen": torch.tensor(int(frozen)),
    }
    other, again = build(1)
    other.load_state_dict(old)
    assert "sparsifier_state.seed" in old, "the caller's dictionary stays as it was"
    assert numbers(other) == numbers(model)
    for net, own in ((model, sparsifier), (other, again)):
        train(net, torch.optim.SGD(net.parameters(), 0.05), own, stop, 8)
    assert again.frozen
    for key, value in model.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
    with pytest.raises(ActivsparseError, match="seed is 3 there, 4 here"):
        build(seed=4)[0].load_state_dict(old)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"sparsity": 0.5}, "mean sparsity is 0.4 there, 0.5 here"),
        ({"pattern": "lattice"}, "pattern is random there, lattice here"),
        ({"seed": 4}, "seed is 3 there, 4 here"),
        ({"block": 2}, "block is 1 there, 2 here"),
        ({"fill": "auto"}, "fill is zero there, auto here"),
        ({"criterion": "random"}, "criterion is lnorm there, random here"),
        ({"per_layer": {"blocks.0.conv1": 0.3, "blocks.0.conv2": 0.5}}, "digest of layers is"),
    ],
)
def test_masks_of_other_options_are_refused(options, words):
    saved = build()[0].state_dict()
    build()[0].load_state_dict(saved)
    model, sparsifier = build(total_steps=80, schedule="constant")
    model.load_state_dict(saved)
    assert sparsifier.current_step == 0, "a schedule may be another one"
    other = build(**options)[0]
    with pytest.raises(ActivsparseError, match=words) as caught:
        other.load_state_dict(saved, strict=False)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "entry",
    [
        torch.zeros(0),
        torch.zeros(1024, dtype=torch.uint8),
        torch.full((1024,), 1e9),
        torch.full((1024,), float("nan")),
        torch.tensor(3),
        "step 3",
        None,
    ],
)
def test_a_damaged_entry_is_named(entry):
    model = build()[0]
    with pytest.raises(ActivsparseError, match="state of a Sparsifier is damaged") as caught:
        model.load_state_dict({**model.state_dict(), ENTRY: entry})
    assert "\n" not in str(caught.value)


def test_an_average_of_entries_is_damaged():
    model, sparsifier = build()
    one = model.state_dict()
    sparsifier.step(2.5)
    both = {key: (value.double() + one[key]) / 2 for key, value in model.state_dict().items()}
    with pytest.raises(ActivsparseError, match="averages of state dicts spoil it"):
        model.load_state_dict(both)
