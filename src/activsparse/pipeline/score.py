"""What masks cost: all files on the same held-out images, in this engine, image by image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from activsparse.detect.data import DetectionData
from activsparse.engine.session import Session
from activsparse.files import atomic_path
from activsparse.pipeline.detection_score import DetectionScore, found_in
from activsparse.pipeline.progress import Measuring

if TYPE_CHECKING:
    from activsparse.data import BatchData
    from activsparse.pipeline.work import Work

__all__ = [
    "IntArray",
    "Score",
    "answers",
    "in_words",
    "interval_of_counts",
    "make_score",
    "paired_interval",
    "read_score",
]

IntArray = npt.NDArray[np.int64]
_DRAWS = 10_000


@dataclass(frozen=True)
class Score:
    """All networks on the same images.

    Attributes:
        labels: (N,).
        said: by name, `dense` among them, the classes they say, (N,).
    """

    labels: IntArray
    said: Mapping[str, IntArray]
    figure = "top-1"

    @property
    def networks(self) -> list[str]:
        """Their names."""
        return list(self.said)

    @property
    def images(self) -> int:
        """How many images they were asked about."""
        return len(self.labels)

    def value(self, name: str) -> float:
        """Share of the images that a network gets right."""
        return float(np.mean(self.said[name] == self.labels))

    def lost(self, name: str, against: str = "dense") -> float:
        """What a network gets wrong that another one gets right, as a share, net."""
        return self.value(against) - self.value(name)

    def interval(self, name: str, against: str = "dense") -> tuple[float, float]:
        """Paired 95 % interval of `lost`."""
        right = {which: self.said[which] == self.labels for which in (against, name)}
        return paired_interval(right[against], right[name])


def in_words(lost: float, interval: tuple[float, float], points: str = "points") -> str:
    """What is lost or gained, as one says it.

    Args:
        lost: as a share; below 0 what is gained.
        interval: of it, 95 %.
        points: what hundredths of it are called.
    """
    word, sign = ("gained", -1) if lost < 0 else ("lost", 1)
    low, high = sorted(100 * sign * end for end in interval)
    # Adding 0 takes the sign from a zero.
    amount, low, high = (round(x, 1) + 0.0 for x in (100 * sign * lost, low, high))
    return f"{amount:.1f} {points} {word} (paired 95 % interval {low:.1f} to {high:.1f})"


def paired_interval(
    one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_], seed: int = 0
) -> tuple[float, float]:
    """Bootstrap percentile interval (95 %) of mean(one) - mean(other) over the same samples.

    Args:
        one: whether a sample is right, (N,).
        other: alike, of the same samples.
        seed: of the draws.
    """
    return interval_of_counts(int((one & ~other).sum()), int((other & ~one).sum()), len(one), seed)


def interval_of_counts(
    only_one: int, only_other: int, count: int, seed: int = 0
) -> tuple[float, float]:
    """The same of how many of `count` samples only one, and only the other gets right.

    Drawing samples anew with replacement draws these numbers from a multinomial distribution, since
    a pair's difference is -1, 0 or 1.
    """
    shares = np.array([only_one, count - only_one - only_other, only_other]) / count
    drawn = np.random.default_rng(seed).multinomial(count, shares, _DRAWS)
    low, high = np.quantile((drawn[:, 0] - drawn[:, 2]) / count, (0.025, 0.975))
    return float(low), float(high)


def make_score(work: Work) -> None:
    """Write `predictions.npz`."""
    sessions = {name: work.session(path) for name, path in work.networks.items()}
    arrays: dict[str, Any] = {}
    for data in dict.fromkeys(work.data_of(name) for name in sessions):
        alike = {name: x for name, x in sessions.items() if work.data_of(name) is data}
        with Measuring("held-out images, batches", work.console) as progress:
            if isinstance(data, DetectionData):
                arrays = found_in(alike, data, progress).arrays() | arrays
            else:
                labels, said = answers(alike, data, progress)
                arrays = {"labels": labels, **said} | arrays
    # In the order of the networks, in which tables are.
    arrays = {name: arrays.pop(name) for name in sessions} | arrays
    with atomic_path(work.path("predictions.npz")) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def answers(
    sessions: Mapping[str, Session],
    data: BatchData,
    progress: Measuring,
    images: int | None = None,
) -> tuple[IntArray, dict[str, IntArray]]:
    """The classes that networks say of held-out images, one image at a time.

    Args:
        sessions: by name.
        data: of the networks' input size.
        progress: told of each batch.
        images: at most so many, the first ones.

    Returns:
        The right classes (N,), and those that each network says.
    """
    labels: list[int] = []
    said: dict[str, list[int]] = {name: [] for name in sessions}
    loader = data.test_dataloader()
    total = len(loader)
    for done, (batch, targets) in enumerate(loader, 1):
        left = len(targets) if images is None else images - len(labels)
        labels += targets[:left].tolist()
        for name, session in sessions.items():
            scores = (session.run(image[None].numpy()) for image in batch[:left])
            said[name] += [int(np.argmax(score)) for score in scores]
        progress.advance(done, total)
        if len(labels) == images:
            break
    found = {name: np.array(classes, np.int64) for name, classes in said.items()}
    return np.array(labels, np.int64), found


def read_score(path: Path) -> Score | DetectionScore:
    """What `make_score` wrote."""
    with np.load(path) as file:
        found = {name: file[name] for name in file.files}
    if "labels" not in found:
        return DetectionScore.of_arrays(found)
    return Score(found.pop("labels"), found)
