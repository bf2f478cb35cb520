"""Boxes and names on pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from activsparse.detect.boxes import Detections
from activsparse.detect.draw import colour_of, draw


def drawn(size, box, label=3, names=()):
    """What changed in a black picture, as a mask (H, W), and the picture itself."""
    found = Detections(torch.tensor([box]).float(), torch.tensor([0.5]), torch.tensor([label]))
    pixels = np.array(draw(Image.new("RGB", size), found, names))
    return pixels.any(2), pixels


def test_a_name_stands_above_its_box_and_leaves_the_object_free():
    changed, pixels = drawn((200, 120), (50, 60, 90, 100))
    assert not changed[63:98, 53:88].any()
    assert changed[50:58, 50:70].all()
    assert tuple(pixels[100, 70]) == colour_of(3)
    assert not changed[:40].any()


@pytest.mark.parametrize("box", [(0, 0, 30, 30), (170, 90, 200, 120), (150, 0, 200, 120)])
def test_names_stay_in_the_picture(box):
    whole, _ = drawn((200, 120), (60, 60, 70, 70), names=["", "", "", "pullover"])
    width = whole.any(0).sum()
    changed, _ = drawn((200, 120), box, names=["", "", "", "pullover"])
    assert changed.any(0).sum() >= width


def test_names_grow_with_the_picture():
    heights = [drawn((side, side), (side / 2, side / 2, side, side))[0] for side in (200, 2000)]
    above = [int(changed[: len(changed) // 2 - 8].any(1).sum()) for changed in heights]
    assert above[1] > 3 * max(above[0], 8)


@pytest.mark.parametrize("label", range(80))
def test_white_letters_can_be_read(label):
    linear = [(v / 255) ** 2.2 for v in colour_of(label)]
    light = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    assert 1.05 / (light + 0.05) > 3  # WCAG's contrast for large letters
