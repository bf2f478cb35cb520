"""Matching, loss, decoding and suppression."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from activsparse import ActivsparseError
from activsparse.detect.anchors import kmeans_anchors
from activsparse.detect.boxes import detections
from activsparse.detect.loss import DetectionLoss, match
from activsparse.models.yolov5 import STRIDES, YoloV5

TARGETS = torch.tensor([[0.0, 1, 37, 61, 20, 24], [1.0, 0, 80, 30, 44, 40]])


def test_a_box_belongs_to_its_cell_and_the_two_nearest():
    targets = torch.tensor([[0.0, 2, 4.3, 3.8, 2.0, 2.0]])
    anchors = torch.tensor([[2.0, 2.0], [9.0, 1.0], [0.6, 0.6]])
    found = match(targets, anchors, (8, 8))
    places = set(zip(found.anchor.tolist(), found.row.tolist(), found.column.tolist(), strict=True))
    cells = {(3, 4), (3, 3), (4, 4)}
    assert places == {(a, *cell) for a in (0, 2) for cell in cells}
    assert found.labels.unique().tolist() == [2]
    centre = found.boxes[:, :2] + torch.stack([found.column, found.row], 1)
    torch.testing.assert_close(centre, torch.tensor([[4.3, 3.8]]).expand(6, 2))
    assert found.boxes[:, :2].min() >= -0.5
    assert found.boxes[:, :2].max() <= 1.5


@pytest.mark.parametrize("x", [0.01, 0.5, 7.99])
def test_boxes_at_the_border_stay_inside(x):
    found = match(torch.tensor([[0.0, 0, x, x, 1, 1]]), torch.tensor([[1.0, 1.0]]), (8, 8))
    for index in (found.row, found.column):
        assert index.min() >= 0
        assert index.max() <= 7


def test_descending_the_loss_finds_the_boxes():
    torch.manual_seed(0)
    model = YoloV5(2)
    loss = DetectionLoss(model.head.anchors, STRIDES, 2)
    raw = [torch.randn(2, 3, 96 // s, 128 // s, 7).requires_grad_() for s in STRIDES]
    with torch.no_grad():
        for y in raw:
            y[..., 4] = -4
    optimizer = torch.optim.Adam(raw, 0.1)
    values = []
    for _ in range(250):
        parts = loss(raw, TARGETS)
        optimizer.zero_grad()
        parts["loss"].backward()
        optimizer.step()
        values.append(float(parts["loss"].detach()))
    assert values[-1] < 0.1 * values[0]
    boxes = model.head.decode([y.detach() for y in raw])
    for image, row in enumerate(TARGETS):
        found = detections(boxes[image], score=0.3)
        centre, size = row[2:4], row[4:]
        wanted = torch.cat([centre - size / 2, centre + size / 2])[None]
        assert float(box_iou(found.boxes[:1], wanted)) > 0.8
        assert set(found.labels.tolist()) == {int(row[1])}


def test_pictures_without_objects_have_a_loss():
    loss = DetectionLoss(YoloV5(2).head.anchors, STRIDES, 2)
    raw = [torch.zeros(1, 3, 2, 2, 7, requires_grad=True) for _ in STRIDES]
    parts = loss(raw, torch.zeros(0, 6))
    parts["loss"].backward()
    assert parts["box"].item() == 0
    assert parts["object"].item() > 0


def test_suppression_keeps_the_surest_of_a_class():
    rows = torch.tensor(
        [
            [50.0, 50, 20, 20, 1.0, 0.9, 0.0],
            [51.0, 50, 20, 20, 1.0, 0.8, 0.0],  # the same object
            [50.0, 50, 20, 20, 1.0, 0.0, 0.7],  # another class
            [90.0, 50, 20, 20, 0.5, 0.4, 0.0],  # unsure: 0.5 * 0.4
        ]
    )
    rows = torch.cat([rows, torch.zeros(10, 7)])
    found = detections(rows)
    assert found.labels.tolist() == [0, 1]
    torch.testing.assert_close(found.scores, torch.tensor([0.9, 0.7]))
    assert found.boxes[0].tolist() == [40, 40, 60, 60]
    without_objectness = torch.cat([rows[:, :4], rows[:, 5:] * rows[:, 4:5]], 1).T
    torch.testing.assert_close(detections(without_objectness).boxes, found.boxes)


def test_anchors_are_the_clusters_by_area():
    rng = np.random.default_rng(0)
    centres = np.array([[8, 8], [10, 20], [24, 16], [32, 40], [60, 50], [64, 110], [120, 90]])
    sizes = np.concatenate([c * rng.uniform(0.95, 1.05, (50, 2)) for c in centres])
    anchors = np.array(kmeans_anchors(sizes.astype(np.float32))).reshape(-1, 2)
    areas = anchors.prod(1)
    assert (np.diff(areas) > 0).all()
    for centre in centres:
        assert np.abs(np.log(anchors / centre)).max(1).min() < 0.1
    with pytest.raises(ActivsparseError, match="too few"):
        kmeans_anchors(sizes[:8])
