from __future__ import annotations

import pytest
import torch
from torch import nn

from activsparse.models import build_model
from activsparse.models.yolov5 import ANCHORS, STRIDES, yolov5n, yolov5s


# Published for 80 classes: with batch norms, and with these folded into the convolutions.
@pytest.mark.parametrize(
    ("factory", "parameters", "folded"),
    [(yolov5n, 1_872_157, 1_867_405), (yolov5s, 7_235_389, 7_225_885)],
)
def test_parameters_are_the_published_number(factory, parameters, folded):
    model = factory()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    assert sum(p.numel() for p in model.parameters()) == parameters
    # A folded norm leaves a bias of its two vectors.
    assert parameters - sum(norm.num_features for norm in norms) == folded


def test_maps_and_boxes_have_the_strides_sizes():
    torch.manual_seed(0)
    model = build_model("yolov5n", 5)
    x = torch.rand(2, 3, 64, 96)
    raw = model(x)
    assert [tuple(y.shape) for y in raw] == [(2, 3, 64 // s, 96 // s, 10) for s in STRIDES]
    boxes = model.eval()(x)
    assert boxes.shape == (2, sum(3 * (64 // s) * (96 // s) for s in STRIDES), 10)


def test_decoding_one_cell_by_the_published_formulas():
    torch.manual_seed(1)
    model = yolov5n(num_classes=2)
    raw = [torch.randn(1, 3, 4, 6, 7), torch.randn(1, 3, 2, 3, 7), torch.randn(1, 3, 1, 2, 7)]
    boxes = model.head.decode(raw)
    anchor, i, j = 2, 1, 2  # of the middle scale
    p = raw[1][0, anchor, i, j].sigmoid()
    width, height = ANCHORS[1][anchor]
    expected = torch.tensor(
        [
            (2 * p[0] - 0.5 + j) * 16,
            (2 * p[1] - 0.5 + i) * 16,
            (2 * p[2]) ** 2 * width,
            (2 * p[3]) ** 2 * height,
        ]
    )
    row = boxes[0, 3 * 4 * 6 + anchor * 6 + i * 3 + j]
    torch.testing.assert_close(row, torch.cat([expected, p[4:]]))
