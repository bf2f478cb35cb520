"""What masks cost a detector: all files on the same held-out pictures, in this engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.ops import box_convert
from torchvision.transforms.v2.functional import to_pil_image

from activsparse.detect.boxes import detections, found_alike
from activsparse.detect.draw import draw
from activsparse.detect.precision import Found, hits_of, map50_interval
from activsparse.engine.session import Session
from activsparse.pipeline.progress import Measuring
from activsparse.report.detections import Pair

if TYPE_CHECKING:
    from activsparse.detect.data import DetectionData

__all__ = ["DetectionScore", "found_in", "pairs_of"]

_SHOWN = 12


@dataclass(frozen=True)
class DetectionScore:
    """All networks on the same pictures.

    Attributes:
        found: by name.
    """

    found: Mapping[str, Found]
    figure = "mAP50"

    @property
    def networks(self) -> list[str]:
        """Their names."""
        return list(self.found)

    @property
    def images(self) -> int:
        """How many pictures they were asked about."""
        return self.found["dense"].pictures

    def value(self, name: str) -> float:
        """Mean average precision at an overlap of 0.5."""
        return self.found[name].map50

    def lost(self, name: str, against: str = "dense") -> float:
        """How much less that is than another network's."""
        return self.value(against) - self.value(name)

    def interval(self, name: str, against: str = "dense") -> tuple[float, float]:
        """Paired 95 % interval of `lost`."""
        return map50_interval(self.found[against], self.found[name])

    def arrays(self) -> dict[str, np.ndarray]:
        """For a file."""
        first = next(iter(self.found.values()))
        given = {"pictures": np.array(first.pictures), "objects": first.objects}
        return given | {name: found.detections for name, found in self.found.items()}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, np.ndarray]) -> DetectionScore:
        """From a file."""
        pictures, objects = int(arrays["pictures"]), arrays["objects"]
        names = [name for name in arrays if name not in ("pictures", "objects")]
        return cls({name: Found(pictures, objects, arrays[name]) for name in names})


def found_in(
    sessions: Mapping[str, Session], data: DetectionData, progress: Measuring
) -> DetectionScore:
    """What networks find in held-out pictures, one picture at a time."""
    rows: dict[str, list[np.ndarray]] = {name: [] for name in sessions}
    objects: list[tuple[int, int]] = []
    pictures = 0
    for image, boxes, labels in _pictures(data, progress):
        objects += [(pictures, int(label)) for label in labels]
        for name, session in sessions.items():
            found = detections(_answer(session, image), score=0.001, overlap=0.6)
            hits = hits_of(found, boxes, labels)
            rows[name].append(np.insert(hits, 0, pictures, axis=1))
        pictures += 1
    there = np.array(objects, np.int64).reshape(-1, 2)
    return DetectionScore(
        {name: Found(pictures, there, np.concatenate(own)) for name, own in rows.items()}
    )


def pairs_of(dense: Session, masked: Session, data: DetectionData) -> list[Pair]:
    """What both find in the first held-out pictures, drawn."""
    pairs = []
    with Measuring("pictures", None) as progress:
        for number, (image, _, _) in enumerate(_pictures(data, progress)):
            if number == _SHOWN:
                break
            one, other = (detections(_answer(session, image)) for session in (dense, masked))
            picture: Image.Image = to_pil_image(image)
            drawn = [draw(picture, found, data.classes) for found in (one, other)]
            counts = (len(one.scores), len(other.scores), found_alike(one, other))
            pairs.append(Pair(f"picture {number + 1}", drawn[0], drawn[1], counts))
    return pairs


def _pictures(data: DetectionData, progress: Measuring) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Image (C, H, W), corners of its objects (M, 4), their labels (M,)."""
    loader = data.test_dataloader()
    for done, (images, targets) in enumerate(loader, 1):
        for at, image in enumerate(images):
            own = targets[targets[:, 0] == at]
            yield image, box_convert(own[:, 2:], "cxcywh", "xyxy"), own[:, 1].long()
        progress.advance(done, len(loader))


def _answer(session: Session, image: Tensor) -> Tensor:
    found = session.run(image[None].numpy())
    return torch.from_numpy(found[0] if isinstance(found, list) else found)[0]
