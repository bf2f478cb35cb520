"""Matching and loss against loops over single boxes, anchors and cells, in 64 bits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from activsparse.detect.loss import DetectionLoss, match
from activsparse.models.yolov5 import ANCHORS, STRIDES

EPS = float(np.finfo(np.float32).eps)
Place = tuple[int, int, int, int]


def places_of(target, anchors, grid):
    """Where one box is to be predicted at a scale: (image, anchor, row, column), by definition."""
    image, _, x, y, w, h = target
    rows, columns = grid
    column, row = math.floor(x), math.floor(y)
    cells = [(row, column)]
    # The neighbours whose border is nearer than half a cell, if they exist.
    if x - column < 0.5 and column > 0:
        cells.append((row, column - 1))
    if x - column > 0.5 and column < columns - 1:
        cells.append((row, column + 1))
    if y - row < 0.5 and row > 0:
        cells.append((row - 1, column))
    if y - row > 0.5 and row < rows - 1:
        cells.append((row + 1, column))
    fitting = [a for a, (aw, ah) in enumerate(anchors) if max(w / aw, aw / w, h / ah, ah / h) < 4]
    return [(int(image), a, *cell) for a in fitting for cell in cells]


def ciou(a, b):
    """Zheng et al., 2020, of two boxes as centre and size: overlap - distance - other shape."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = (
        (x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in (a, b)
    )
    common = max(min(ax2, bx2) - max(ax1, bx1), 0) * max(min(ay2, by2) - max(ay1, by1), 0)
    overlap = common / (a[2] * a[3] + b[2] * b[3] - common)
    far = (max(ax2, bx2) - min(ax1, bx1)) ** 2 + (max(ay2, by2) - min(ay1, by1)) ** 2
    apart = ((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2) / far
    shape = 4 / math.pi**2 * (math.atan(b[2] / b[3]) - math.atan(a[2] / a[3])) ** 2
    return overlap - apart - shape**2 / (1 - overlap + shape) if shape else overlap - apart


def cross_entropy(number, goal):
    return max(number, 0) - number * goal + math.log1p(math.exp(-abs(number)))


def sigmoid(number):
    return 1 / (1 + math.exp(-number))


def loss_by_hand(raw, targets, anchors, classes):
    """The three weighted parts; the goal of a place two boxes share may be either's."""
    parts = {"box": 0.0, "object": 0.0, "class": 0.0}
    for y, stride, sizes, balance in zip(raw, STRIDES, anchors, (4.0, 1.0, 0.4), strict=True):
        grid = y.shape[2:4]
        scaled = [aw_ah / stride for aw_ah in np.array(sizes)]
        goals: dict[Place, float] = {}
        boxes, labels = [], []
        for target in targets:
            target = [*target[:2], *(v / stride for v in target[2:])]
            for place in places_of(target, scaled, grid):
                numbers = y[place]
                p = [sigmoid(v) for v in numbers[:4]]
                aw, ah = scaled[place[1]]
                predicted = (
                    2 * p[0] - 0.5 + place[3], 2 * p[1] - 0.5 + place[2],
                    (2 * p[2]) ** 2 * aw, (2 * p[3]) ** 2 * ah,
                )  # fmt: skip
                overlap = ciou(predicted, target[2:])
                assert place not in goals, "this test's boxes share no place"
                goals[place] = max(overlap, 0)
                boxes.append(1 - overlap)
                labels += [
                    cross_entropy(v, float(i == target[1])) for i, v in enumerate(numbers[5:])
                ]
        objects = [
            cross_entropy(y[place][4], goals.get(place, 0.0)) for place in np.ndindex(y.shape[:4])
        ]
        parts["box"] += 0.05 * np.mean(boxes) if boxes else 0
        parts["object"] += balance * np.mean(objects)
        parts["class"] += 0.5 * np.mean(labels) if boxes and classes > 1 else 0
    return parts


@pytest.mark.parametrize("seed", range(40))
def test_boxes_are_matched_as_defined(seed):
    rng = np.random.default_rng(seed)
    rows, columns = (int(v) for v in rng.integers(1, 12, 2))
    count = int(rng.integers(0, 12))
    targets = np.concatenate(
        [
            rng.integers(0, (4, 9), (count, 2)),
            rng.uniform(0, (columns, rows), (count, 2)),
            np.exp(rng.uniform(-2, 3, (count, 2))),
        ],
        1,
    ).astype(np.float32)
    anchors = np.exp(rng.uniform(-1, 2, (3, 2))).astype(np.float32)
    found = match(torch.from_numpy(targets), torch.from_numpy(anchors), (rows, columns))
    boxes = found.boxes.double().numpy() + np.pad(
        np.stack([found.column, found.row], 1), ((0, 0), (0, 2))
    )
    ours = sorted(
        (*(int(v) for v in place), int(label), *(round(float(v), 4) for v in box))
        for *place, label, box in zip(
            found.image, found.anchor, found.row, found.column, found.labels, boxes, strict=True
        )
    )
    wanted = sorted(
        (*place, int(target[1]), *(round(float(v), 4) for v in target[2:]))
        for target in targets.astype(np.float64)
        for place in places_of(target, anchors.astype(np.float64), (rows, columns))
    )
    np.testing.assert_allclose(
        np.array(ours).reshape(-1, 9), np.array(wanted).reshape(-1, 9), atol=1e-3, err_msg=str(seed)
    )


@pytest.mark.parametrize("classes", [1, 3])
@pytest.mark.parametrize("seed", range(6))
def test_the_loss_is_the_published_sum(seed, classes):
    rng = np.random.default_rng(seed)
    h, w = (32 * int(v) for v in rng.integers(2, 5, 2))
    # One box an image: no two of them meet at a place.
    images = 3
    targets = np.stack(
        [
            np.arange(images), rng.integers(0, classes, images),
            rng.uniform(0, w, images), rng.uniform(0, h, images),
            *np.exp(rng.uniform(2, 5, (2, images))),
        ],
        1,
    ).astype(np.float32)  # fmt: skip
    raw = [
        rng.normal(size=(images, 3, h // s, w // s, 5 + classes)).astype(np.float32)
        for s in STRIDES
    ]
    loss = DetectionLoss(torch.tensor(ANCHORS).float(), STRIDES, classes)
    parts = loss([torch.from_numpy(y) for y in raw], torch.from_numpy(targets))
    wanted = loss_by_hand(
        [y.astype(np.float64) for y in raw], targets.astype(np.float64), ANCHORS, classes
    )
    bound = 200 * EPS
    for name, value in wanted.items():
        assert float(parts[name]) == pytest.approx(value, rel=bound, abs=bound), (name, seed)
    total = images * sum(wanted.values())
    assert float(parts["loss"]) == pytest.approx(total, rel=bound, abs=bound)
