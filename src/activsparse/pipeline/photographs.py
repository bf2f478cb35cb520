"""Held-out images as a reader sees them, and those of which networks say different things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from activsparse.data import BatchData
from activsparse.report import Difference

__all__ = ["classes_of", "differences", "first_pictures"]

_SAMPLES = 6
_MOST_DIFFERENCES = 24

Classes = npt.NDArray[np.int64]


def classes_of(data: BatchData) -> Sequence[str]:
    """The names of the classes; empty where they have none."""
    names: Sequence[str] = getattr(data, "classes", ())
    return names


def first_pictures(data: BatchData) -> list[npt.NDArray[np.float32]]:
    """The first held-out images, (H, W) or (H, W, 3) in [0, 1]."""
    images: Any = next(iter(data.test_dataloader()))[0][:_SAMPLES].numpy()
    return [_shown(image, data) for image in images]


def differences(
    data: BatchData,
    classes: Sequence[str],
    labels: Classes,
    dense: Classes,
    masked: Mapping[str, Classes],
) -> list[Difference]:
    """Some held-out images of which a masked network says something else than the dense one.

    Args:
        data: the images.
        classes: their classes' names, if they have any.
        labels: right classes of the first images, (N,).
        dense: what the dense network says, (N,).
        masked: what others say, by their name.
    """

    def named(label: Any) -> str:
        return classes[label] if label < len(classes) else str(label)

    share = max(1, _MOST_DIFFERENCES // max(len(masked), 1))
    wanted = {
        int(at): name
        for name, said in masked.items()
        for at in np.nonzero(said != dense)[0][:share]
    }
    found = []
    first = 0
    for images, _ in data.test_dataloader() if wanted else ():
        for at in sorted(at for at in wanted if first <= at < first + len(images)):
            name = wanted[at]
            image = _shown(images[at - first].numpy(), data)
            right, one, other = (named(said[at]) for said in (labels, dense, masked[name]))
            found.append(Difference(image, right, one, other, name))
        first += len(images)
        if first > max(wanted):
            break
    return found


def _shown(image: npt.NDArray[np.float32], data: BatchData) -> npt.NDArray[np.float32]:
    """Undo the normalisation of an image (C, H, W)."""
    mean, std = (np.array(x)[:, None, None] for x in (data.mean, data.std))
    shown = np.clip(image * std + mean, 0, 1).astype(np.float32)
    return shown[0] if len(shown) == 1 else np.moveaxis(shown, 0, -1)
