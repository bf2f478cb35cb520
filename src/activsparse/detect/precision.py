"""Mean average precision at an overlap of 0.5, as COCO counts it, and how sure it is.

What is found is compared with what is there once; the figure of any drawing of the pictures then
follows from sums, so that thousands of drawings take a moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torchvision.ops import box_iou

from activsparse.detect.boxes import Detections

__all__ = ["Found", "hits_of", "map50_interval"]

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float64]

_OVERLAP = 0.5
_MOST = 100
"""Detections of a class in a picture that count, the surest."""
_RECALLS = np.linspace(0, 1, 101)


def hits_of(found: Detections, boxes: Tensor, labels: Tensor) -> npt.NDArray[np.float64]:
    """Which detections in a picture find an object, each object found once, by the surest.

    Args:
        found: the surest first.
        boxes: of the objects, (M, 4), corners.
        labels: of the objects, (M,).

    Returns:
        (D, 3): label, score, and 1 or 0.
    """
    rows: list[tuple[float, float, float]] = []
    for label in sorted(set(found.labels.tolist())):
        own = (found.labels == label).nonzero().flatten()[:_MOST]
        there = boxes[labels == label]
        overlaps = box_iou(found.boxes[own], there)
        for at, scores in zip(own.tolist(), overlaps, strict=True):
            best = int(scores.argmax()) if len(there) else -1
            hit = best >= 0 and float(scores[best]) >= _OVERLAP
            if hit:
                overlaps[:, best] = -1
            rows.append((label, float(found.scores[at]), float(hit)))
    return np.array(rows, np.float64).reshape(-1, 3)


@dataclass(frozen=True)
class Found:
    """What a detector found in some pictures.

    Attributes:
        pictures: how many there are.
        objects: (M, 2): picture and label of each object that is there.
        detections: (D, 4): picture, label, score, and whether it finds an object.
    """

    pictures: int
    objects: IntArray
    detections: FloatArray

    @property
    def map50(self) -> float:
        """Mean over the classes that there are."""
        return self.map50_of(np.ones(self.pictures))

    def map50_of(self, weights: FloatArray) -> float:
        """The same where each picture counts so many times, (pictures,)."""
        found = [
            _average_precision(weights[pictures], hits, float(weights[there].sum()))
            for pictures, hits, there in self._classes
            if weights[there].sum()
        ]
        return float(np.mean(found)) if found else 0.0

    @cached_property
    def _classes(self) -> list[tuple[IntArray, FloatArray, IntArray]]:
        """Of each class: pictures of its detections and hits, surest first; pictures of objects."""
        pictures, labels = self.detections[:, 0].astype(np.int64), self.detections[:, 1]
        order = np.argsort(-self.detections[:, 2], kind="stable")
        classes = []
        for label in np.unique(self.objects[:, 1]):
            own = order[labels[order] == label]
            there = self.objects[self.objects[:, 1] == label, 0]
            classes.append((pictures[own], self.detections[own, 3], there))
        return classes


def _average_precision(weights: FloatArray, hits: FloatArray, objects: float) -> float:
    right, all_found = np.cumsum(weights * hits), np.cumsum(weights)
    precision = right / np.maximum(all_found, 1e-12)
    # The best precision at this recall or above.
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(right / objects, _RECALLS, side="left")
    reached = at < len(envelope)
    return float(envelope[at[reached]].sum() / len(_RECALLS))


def map50_interval(
    one: Found, other: Found, draws: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Bootstrap percentile interval (95 %) of one's figure less the other's, paired by picture."""
    rng = np.random.default_rng(seed)
    share = np.full(one.pictures, 1 / one.pictures)
    differences = []
    for _ in range(draws):
        weights = rng.multinomial(one.pictures, share).astype(np.float64)
        differences.append(one.map50_of(weights) - other.map50_of(weights))
    low, high = np.quantile(differences, (0.025, 0.975))
    return float(low), float(high)
