"""How many of a run's own held-out images ONNX files classify rightly, in this engine."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from rich.console import Console

from activsparse.data import BatchData, build_data
from activsparse.data.registry import BOXES
from activsparse.engine.session import Session
from activsparse.errors import ActivsparseError
from activsparse.pipeline.progress import Measuring
from activsparse.pipeline.score import answers
from activsparse.train.run.folder import read_run_config

__all__ = ["held_out_images", "top1_of"]


def held_out_images(folder: str | Path, trust: bool = False) -> BatchData:
    """The data a run was trained on, of which `test_dataloader` gives what it never saw.

    Raises:
        ActivsparseError: no run folder, one of a detector, or data that cannot be found.
    """
    config = read_run_config(Path(folder), trust)
    if config.data.name in BOXES:
        raise ActivsparseError(
            f"{folder}: is a detector's run, and boxes have no top-1; name the run of a classifier"
        )
    return build_data(**config.data.model_dump(), seed=config.seed)


def top1_of(
    sessions: Mapping[str, Session], data: BatchData, console: Console | None = None
) -> dict[str, float]:
    """Share of held-out images that each classifier gets right.

    Args:
        sessions: by name; each takes one image of the data's size.
        data: see `held_out_images`.
        console: for a progress bar.

    Raises:
        ActivsparseError: one takes other images.
    """
    for model, found in sessions.items():
        shapes = [tuple(shape) for _, shape in found.inputs]
        if shapes != [(1, *data.shape)]:
            here = " and ".join("x".join(map(str, shape)) for shape in shapes)
            raise ActivsparseError(
                f"{model}: takes {here}, the run's images are 1x{'x'.join(map(str, data.shape))}; "
                "name the run it was exported from"
            )
    with Measuring("held-out images, batches", console) as progress:
        labels, said = answers(sessions, data, progress)
    return {model: float(np.mean(classes == labels)) for model, classes in said.items()}
