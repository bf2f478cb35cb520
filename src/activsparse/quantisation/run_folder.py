"""A run folder's network and its own images: training ones calibrate, test ones tell the cost."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from activsparse.data import build_data
from activsparse.export.onnx import convert
from activsparse.quantisation.calibrate import Feed
from activsparse.quantisation.samples import Samples
from activsparse.train.run.folder import load_run

if TYPE_CHECKING:
    from activsparse.train.recipes.config import Config
    from activsparse.train.run.folder import Run

__all__ = ["network_of", "samples_of_run"]


def network_of(
    folder: str | Path, *, checkpoint: str = "best", trust: bool | Config = False
) -> tuple[onnx.ModelProto, Run]:
    """Export a run's network as ONNX, masks and all.

    Raises:
        ActivsparseError: see `load_run` and `export.onnx.convert`.
    """
    run = load_run(folder, checkpoint, trust=trust)
    layers = [] if run.sparsifier is None else run.sparsifier.layers
    requested = {layer.name: layer.requested for layer in layers}
    return convert(run.model, run.example_input, requested=requested).model, run


def samples_of_run(run: Run, name: str, images: int, held_out: int) -> Samples:
    """The samples of a run's recipe, as its network was trained to see them.

    Args:
        run: the run.
        name: of the network's input.
        images: at most so many training images, unvaried.
        held_out: at most so many test images; validation images where there are none.

    Raises:
        ActivsparseError: data that cannot be found.
    """
    data = build_data(**run.config.data.model_dump(), seed=run.config.seed)
    calibration, _ = _taken(data.unvaried_dataloader(-(-images // 128)), name, images)
    tests, labels = _taken(data.test_dataloader(), name, held_out)
    which = "test" if data.has_test else "validation"
    told = f"{len(calibration)} training images, compared on {len(tests)} {which} images"
    return Samples(calibration, tests, labels, told)


def _taken(batches: Iterable[Any], name: str, count: int) -> tuple[list[Feed], Any]:
    """The first samples, and their labels where they have one each."""
    feeds: list[Feed] = []
    labels: list[int] = []
    for images, targets in batches:
        feeds += [{name: image[None].numpy()} for image in images[: count - len(feeds)]]
        if targets.ndim == 1:
            labels += targets.tolist()
        if len(feeds) >= count:
            break
    return feeds, np.array(labels[: len(feeds)], np.int64) if labels else None
