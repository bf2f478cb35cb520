"""Files of weights as people write them."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch
from torch import nn

from activsparse import ActivsparseError
from activsparse.models import load_weights


def network():
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    )


def under(prefix, state):
    return {prefix + key: value for key, value in state.items()}


ADAM = {"state": {0: {"step": torch.ones(()), "exp_avg": torch.ones(3)}}, "param_groups": [{}]}

CHECKPOINTS = {
    "tutorial": lambda w: {"epoch": 3, "optimizer_state_dict": ADAM, "model_state_dict": w},
    "net": lambda w: {"net": under("module.", w), "acc": 90.0, "epoch": 7},
    "two networks": lambda w: {"D": {"main.0.weight": torch.ones(3)}, "params_ema": w},
    "lightning": lambda w: {"state_dict": under("net.", w), "hyper_parameters": {"lr": 0.1}},
    "a part of a larger one": lambda w: {
        "meta": {"classes": ("a", "b")},
        "state_dict": under("backbone.", w) | {"neck.0.weight": torch.ones(1), "0.step": 1},
    },
    "references of torchvision": lambda w: {"model": w, "args": argparse.Namespace(lr=0.1)},
    "a number of numpy": lambda w: {"state_dict": w, "best": np.float64(81.5), "n": np.int64(3)},
    "before PyTorch 0.4.1": lambda w: {k: v for k, v in w.items() if "num_batches" not in k},
    "wrapped three times": lambda w: under("_orig_mod.student.module.", w),
    "deep": lambda w: {"trainer": {"student": {"weights": w}}},
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_weights_are_found_in_a_checkpoint(tmp_path, name):
    torch.manual_seed(len(name))
    trained, fresh = network(), network()
    torch.save(CHECKPOINTS[name](trained.state_dict()), tmp_path / "c.pt")
    assert load_weights(fresh, tmp_path / "c.pt")
    for (key, value), wanted in zip(fresh.named_parameters(), trained.parameters(), strict=True):
        assert torch.equal(value, wanted), key


class Settings:
    pass


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (lambda w: {"state_dict": w, "config": Settings()}, r"holds objects \(.*Settings\)"),
        (lambda w: network(), r"holds objects \(torch.nn.*state_dict\(\)"),
        (lambda w: [w], "holds no weights"),
        (lambda w: under("other", w), "weight 0.weight is missing"),
    ],
)
def test_what_is_no_data_is_not_loaded(tmp_path, content, text):
    torch.save(content(network().state_dict()), tmp_path / "c.pt")
    with pytest.raises(ActivsparseError, match=text):
        load_weights(network(), tmp_path / "c.pt")


def test_a_network_compiled_by_jit(tmp_path):
    torch.jit.trace(network(), torch.ones(1, 3, 8, 8)).save(str(tmp_path / "c.pt"))
    with pytest.raises(ActivsparseError, match="is a network compiled by"):
        load_weights(network(), tmp_path / "c.pt")
