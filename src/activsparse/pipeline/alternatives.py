"""What else the time could have been won, or spent, by: trained as the masked network is.

A smaller input is the simplest way to a faster network, more training the simplest to a better
one. Both go on from the dense network, taught by it, for as many epochs as the masked one.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from activsparse.bench.measured_speedup import size_speedup
from activsparse.data.registry import BOXES
from activsparse.engine.compile import NATIVE, target_isa
from activsparse.errors import ActivsparseError, Option
from activsparse.export.onnx import export_onnx
from activsparse.masks.mask_plan_file import read_mask_plan
from activsparse.pipeline.dense import train_or_resume
from activsparse.pipeline.options import DENSE_LONGER, SMALLER_INPUT
from activsparse.pipeline.work import Work, file_of, folder_of
from activsparse.train.phase import make_network
from activsparse.train.recipes.config import Config
from activsparse.train.run.folder import example_input
from activsparse.train.trainer import dense_phase

__all__ = ["check_alternatives", "make_dense_longer", "make_smaller_input", "nearest_size", "sizes"]

_log = logging.getLogger(__name__)

Size = tuple[int, int]

_BOX_STEP = 32
"""Detectors halve their input five times and add up maps of different strides."""
_STEPS = 28
"""A side of any other network is tried in so many steps: 8 pixels of 224."""
_LEAST = 4
"""The smallest input has a side of a fourth."""


def check_alternatives(work: Work) -> None:
    """See before any training if the network takes smaller images, where it will have to.

    Raises:
        ActivsparseError: it does not.
    """
    if SMALLER_INPUT not in work.options.alternatives:
        return
    tried = _sizes(work)
    if not tried:
        raise ActivsparseError(
            f"{work.options.model}: images of {work.data.shape[1]}x{work.data.shape[2]} pixels "
            "are too small to be made smaller; leave smaller-input out of ",
            Option("alternatives"),
        )
    network = make_network(dense_phase(work.config), work.data).eval()
    try:
        with torch.no_grad():
            network(example_input((work.data.shape[0], *tried[0])))
    except Exception as error:  # whatever a network of one's own raises
        raise ActivsparseError(
            f"{work.options.model}: takes no images of {tried[0][0]}x{tried[0][1]} pixels "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); leave "
            "smaller-input out of ",
            Option("alternatives"),
        ) from error


def make_dense_longer(work: Work) -> None:
    """Train the dense network on and write its ONNX file.

    Raises:
        ActivsparseError: see `activsparse.train.trainer.train` and `export_onnx`.
    """
    _make(work, DENSE_LONGER, {})


def make_smaller_input(work: Work) -> None:
    """Train the dense network on, with images on which it is as fast as the masked one.

    The teacher of a classifier sees them at full size.

    Raises:
        ActivsparseError: see `activsparse.train.trainer.train` and `export_onnx`.
    """
    changes: dict[str, Any] = {}
    if not (work.path(folder_of(SMALLER_INPUT)) / "config.yaml").is_file():
        dense, target = work.run("dense"), _speed_of_masks(work)
        with tempfile.TemporaryDirectory() as place:
            measure = _speed_of_size(work, dense.model, Path(place))
            size = nearest_size(_sizes(work), target, measure)
        _log.info("an input of %dx%d pixels is as fast as the masks", *size)
        changes = {"image_size": size}
    _make(work, SMALLER_INPUT, changes)


def sizes(whole: Size, step: int) -> list[Size]:
    """Inputs of the same proportions down to a fourth of the side, the largest first.

    Args:
        whole: (H, W) of the network's own input.
        step: of the shorter side, in pixels; both sides are multiples of it.
    """
    short, long = sorted(whole)
    found: list[Size] = []
    for side in range((short - 1) // step * step, max(step, short // _LEAST) - 1, -step):
        other = max(step, round(long * side / short / step) * step)
        found.append((side, other) if whole[0] <= whole[1] else (other, side))
    return found


def nearest_size(tried: Sequence[Size], target: float, measure: Callable[[Size], float]) -> Size:
    """The input with which a network is so fast, as near as the sizes allow.

    Args:
        tried: the largest first, as of `sizes`; one at least.
        target: how many times as fast as with its own input.
        measure: that of a size; larger ones are taken to be slower.

    Returns:
        Where none is so fast, the smallest.
    """
    slow, fast = -1, len(tried) - 1  # the whole input, and the smallest
    known = {-1: 1.0, fast: measure(tried[fast])}
    while fast - slow > 1 and known[fast] > target:
        middle = (slow + fast) // 2
        known[middle] = measure(tried[middle])
        slow, fast = (slow, middle) if known[middle] >= target else (middle, fast)
    if slow >= 0 and target / known[slow] < known[fast] / target:
        return tried[slow]
    return tried[fast]


def _make(work: Work, name: str, data: dict[str, Any]) -> None:
    folder = work.path(folder_of(name))
    train_or_resume(work, _recipe(work, data), folder)
    run = work.run(name)
    export_onnx(run.model, run.example_input, work.path(file_of(name)))


def _recipe(work: Work, data: dict[str, Any]) -> Config:
    """The masked network's without masks."""
    config = work.config
    teacher = config.distillation
    if data and teacher is not None and config.data.name not in BOXES:  # theirs move with the size
        teacher = teacher.model_copy(update={"image_size": config.data.image_size})
    return config.model_copy(
        update={
            "dense": None,
            "init_from": str(work.path("dense")),
            "sparsity": None,
            "data": config.data.model_copy(update=data),
            "distillation": teacher,
        }
    )


def _sizes(work: Work) -> list[Size]:
    _, height, width = work.data.shape
    boxes = work.config.data.name in BOXES
    return sizes((height, width), _BOX_STEP if boxes else max(1, min(height, width) // _STEPS))


def _speed_of_masks(work: Work) -> float:
    return float(read_mask_plan(work.path("plan.yaml")).notes["speedup"])


def _speed_of_size(work: Work, network: nn.Module, place: Path) -> Callable[[Size], float]:
    """What measures how many times as fast the dense network is on smaller images."""

    def measure(size: Size) -> float:
        small = place / f"{size[0]}x{size[1]}.onnx"
        export_onnx(network, example_input((work.data.shape[0], *size)), small, verify=False)
        return size_speedup(
            work.path("dense.onnx"),
            small,
            threads=work.options.threads,
            repeat=work.options.effort.repeat,
            session={"isa": target_isa(NATIVE), "fallback": work.options.fallback},
        )

    return measure
