"""Which of several ways to a speed is best once trained on: each is, for a while, and then asked.

Losses before any training, by which masks are chosen, say little across ways of different kinds: a
network loses much on smaller images, or without some of its channels, and gets most of it back
within an epoch.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from activsparse.data.registry import BOXES
from activsparse.masks.mask_plan import MaskPlan
from activsparse.masks.mask_plan_file import plan_values
from activsparse.train.recipes.config import (
    Config,
    DistillationSection,
    SearchSection,
    SparsitySection,
)
from activsparse.train.recipes.read import dump_config
from activsparse.train.run.folder import held_out_batches, load_run
from activsparse.train.tasks.task import held_out_loss
from activsparse.train.trainer import resume, train

__all__ = ["Finalist", "finalist_recipe", "trained_loss"]


@dataclass(frozen=True, eq=False)
class Finalist:
    """A way to a speed.

    Attributes:
        plan: its masks, which may be none, and its input size.
        start: run folder it goes on from; one that `prune_run` wrote where channels are fewer.
    """

    plan: MaskPlan
    start: Path


def trained_loss(
    finalist: Finalist,
    run: Config,
    epochs: int,
    folder: Path,
    *,
    console: Console | None = None,
    trust: bool = False,
) -> float:
    """Mean loss on all held-out images of the run's data after training on.

    Args:
        finalist: the way.
        run: recipe of the dense run, with the data as they are to be.
        epochs: to train.
        folder: of the trained runs; each has one of its own there, where it is found again.
        console: shows progress.
        trust: see `load_run`.

    Raises:
        ActivsparseError: see `train`.
        Interrupted: by SIGINT or SIGTERM; the same call goes on.
    """
    config = finalist_recipe(finalist, run, epochs)
    size = "x".join(map(str, finalist.plan.input_size))
    # Times are measured, so a plan made again may have other masks; its training is another one.
    place = folder / f"{size}-{hashlib.sha256(dump_config(config).encode()).hexdigest()[:10]}"
    if (place / "config.yaml").is_file():
        resume(place, config, console=console, trust=trust)
    else:
        train(config, place, console=console, trust=trust)
    trained = load_run(place, trust=trust or config)
    loss = held_out_loss(trained.model, trained.example_input)
    total, count = 0.0, 0
    with torch.no_grad():
        for images, labels in held_out_batches(trained.config, images=2**31):
            total += float(loss(trained.model(images), labels)) * len(images)
            count += len(images)
    return total / count


def finalist_recipe(finalist: Finalist, run: Config, epochs: int) -> Config:
    """How a finalist is trained: as its run was, masks from the first step, taught by the run.

    Args:
        finalist: the way.
        run: recipe of the dense run.
        epochs: to train.
    """
    plan, data, section = _masks_alone(finalist.plan), run.data, None
    # Boxes move with the size, so a detector's teacher sees what the network sees.
    full = None if data.name in BOXES else data.image_size
    if plan.masked():
        section = SparsitySection(
            plan=plan_values(plan),
            sparsity=round(plan.sparsity, 4),
            schedule="constant",
            begin=0.0,
            end=0.0,
        )
    return run.model_copy(
        update={
            "dense": None,
            "init_from": str(finalist.start),
            "training": run.training.model_copy(update={"epochs": epochs}),
            "data": data.model_copy(update={"image_size": plan.input_size}),
            "distillation": DistillationSection(weight=1.0, image_size=full),
            "sparsity": section,
            "search": SearchSection(recalibrate=run.search.recalibrate),
        }
    )


def _masks_alone(plan: MaskPlan) -> MaskPlan:
    """Without what was measured, which is another number each time."""
    layers = {name: replace(layer, ms=None, loss=None) for name, layer in plan.layers.items()}
    return replace(plan, notes={}, layers=layers)
