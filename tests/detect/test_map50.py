"""Mean average precision against COCO's own tool, and its interval against drawing anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from activsparse.detect.boxes import Detections
from activsparse.detect.precision import Found, hits_of, map50_interval

pytest.importorskip("pycocotools")


def drawn(seed: int):
    """Objects in pictures, and what two detectors of different skill find there."""
    rng = np.random.default_rng(seed)
    pictures, classes = int(rng.integers(5, 25)), int(rng.integers(1, 5))
    wanted, skilled = [], ([], [])
    for _ in range(pictures):
        count = int(rng.integers(0, 6))
        corner, size = rng.uniform(0, 60, (count, 2)), rng.uniform(8, 40, (count, 2))
        boxes = torch.from_numpy(np.concatenate([corner, corner + size], 1)).float()
        labels = torch.from_numpy(rng.integers(0, classes, count))
        wanted.append((boxes.reshape(-1, 4), labels))
        for found, noise in zip(skilled, (2.0, 7.0), strict=True):
            copies = np.repeat(boxes.numpy().reshape(-1, 4), 2, axis=0)
            stray = rng.uniform(0, 60, (3, 2))
            guess = np.concatenate([stray, stray + rng.uniform(5, 30, (3, 2))], 1)
            all_boxes = np.concatenate([copies + rng.normal(0, noise, copies.shape), guess])
            all_boxes[:, 2:] = np.maximum(all_boxes[:, 2:], all_boxes[:, :2] + 1)
            names = np.concatenate([np.repeat(labels.numpy(), 2), rng.integers(0, classes, 3)])
            scores = torch.from_numpy(rng.random(len(all_boxes))).float()
            order = scores.argsort(descending=True)
            found.append(
                Detections(
                    torch.from_numpy(all_boxes).float()[order],
                    scores[order],
                    torch.from_numpy(names)[order],
                )
            )
    return wanted, skilled


def found_of(wanted, found) -> Found:
    rows = [hits_of(d, boxes, labels) for d, (boxes, labels) in zip(found, wanted, strict=True)]
    objects = [(at, int(label)) for at, (_, labels) in enumerate(wanted) for label in labels]
    numbered = [np.insert(own, 0, at, axis=1) for at, own in enumerate(rows)]
    return Found(len(wanted), np.array(objects).reshape(-1, 2), np.concatenate(numbered))


def by_coco(wanted, found) -> float:
    from torchmetrics.detection import MeanAveragePrecision

    # COCO's recalls are of 64 bits; torchmetrics would round them to 32.
    recalls = np.linspace(0, 1, 101).tolist()
    metric = MeanAveragePrecision(box_format="xyxy", iou_type="bbox", rec_thresholds=recalls)
    metric.update(
        [{"boxes": d.boxes, "scores": d.scores, "labels": d.labels} for d in found],
        [{"boxes": boxes, "labels": labels} for boxes, labels in wanted],
    )
    return float(metric.compute()["map_50"])


@pytest.mark.parametrize("seed", range(12))
def test_it_is_cocos(seed):
    wanted, skilled = drawn(seed)
    for found in skilled:
        expected = by_coco(wanted, found)
        assert found_of(wanted, found).map50 == pytest.approx(expected, abs=1e-6), seed


@pytest.mark.parametrize("seed", range(3))
def test_a_picture_that_counts_twice_is_there_twice(seed):
    wanted, (found, _) = drawn(seed)
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 3, len(wanted))
    places = np.repeat(np.arange(len(wanted)), weights)
    # Those drawn twice come right behind each other, as pictures of equal scores do.
    again = by_coco([wanted[at] for at in places], [found[at] for at in places])
    assert found_of(wanted, found).map50_of(weights.astype(float)) == pytest.approx(again, abs=5e-3)


def test_the_interval_holds_the_difference():
    wanted, (good, bad) = drawn(5)
    one, other = found_of(wanted, good), found_of(wanted, bad)
    low, high = map50_interval(one, other)
    assert low <= one.map50 - other.map50 <= high
    assert map50_interval(one, one) == (0.0, 0.0)


def test_nothing_found_and_nothing_there():
    empty = Found(2, np.zeros((0, 2), np.int64), np.zeros((0, 4)))
    assert empty.map50 == 0.0
    some = Found(2, np.array([[0, 1]]), np.zeros((0, 4)))
    assert some.map50 == 0.0
