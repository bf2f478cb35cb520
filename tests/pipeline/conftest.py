from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

NETWORK = '''
from activsparse.models import SmallResNet
from torch import nn

SIZE = 3

def tiny(num_classes, in_channels=3):
    """Two stages of one block each."""
    return SmallResNet(num_classes, in_channels, widths=(8, 16), blocks=(1, 1))

def picky(num_classes):
    """Takes images of one size."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8 * 30 * 30, num_classes))

def features(num_classes):
    """Knows no classes."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten())

def raises(num_classes):
    return {}["x"]

def lazy(num_classes):
    return nn.Sequential(nn.LazyConv2d(8, 3), nn.Flatten())

class Stubborn(nn.Module):
    def forward(self, x):
        return {}[x]

def stubborn(num_classes):
    return Stubborn()

def fixed(num_classes):
    return tiny(num_classes).requires_grad_(False)
'''
CLASSES = ("bars", "noise", "rows")
SIDE = 16


def picture(kind: str, rng: np.random.Generator) -> Image.Image:
    """An image (16, 16) that tells its class at a glance."""
    values = rng.integers(0, 60, (SIDE, SIDE, 3))
    at = int(rng.integers(0, 3))
    if kind == "bars":
        values[:, at::4] += 180
    elif kind == "rows":
        values[at::4] += 180
    else:
        values += rng.integers(0, 180, values.shape)
    return Image.fromarray(values.astype(np.uint8))


def write_images(folder: Path, count: int) -> None:
    """So many images of each class as CLASS/*.png."""
    rng = np.random.default_rng(0)
    for kind in CLASSES:
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            picture(kind, rng).save(folder / kind / f"{number}.png")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with a network of one's own, `own:tiny`, and images in `images`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "own.py").write_text(NETWORK)
    write_images(tmp_path / "images", 20)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.fixture
def estimated(monkeypatch):
    """Speed-ups of plans that follow from the masks alone: measured ones vary."""

    def speedup(dense: Path, plan, **how) -> float:
        skipped = plan.sparsities().values()
        return 1 / (1 - sum(skipped) / max(len(plan.layers), 1))

    monkeypatch.setattr("activsparse.pipeline.plan.plan_speedup", speedup)
