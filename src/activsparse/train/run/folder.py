"""A finished or stopped run, read back from its folder."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from activsparse.data import build_data
from activsparse.errors import ActivsparseError, Call
from activsparse.files import atomic_path, require_file
from activsparse.masks.mask_plan import MaskPlan
from activsparse.masks.mask_plan_file import plan_of, read_mask_plan
from activsparse.models import build_model
from activsparse.models.weights import read_tensors, trained_weights
from activsparse.train.recipes.config import Config, in_recipe
from activsparse.train.recipes.read import dump_config, read_config
from activsparse.train.run.trust import check_trust
from activsparse.train.sparsify.sparsifier import Sparsifier

__all__ = [
    "Run",
    "example_input",
    "held_out_batches",
    "load_run",
    "make_sparsifier",
    "read_checkpoint",
    "read_run_config",
    "recipe_plan",
    "write_network",
]


@dataclass(frozen=True)
class Run:
    """A trained network.

    Attributes:
        model: in evaluation mode, on the CPU, masks attached; the averaged weights (`training.ema`)
            where there are any.
        sparsifier: its Sparsifier; None of a dense run.
        config: the recipe it was trained with.
        example_input: (1, C, H, W) float32.
        num_classes: outputs of the model.
    """

    model: nn.Module
    sparsifier: Sparsifier | None
    config: Config
    example_input: Tensor
    num_classes: int


def load_run(run_dir: str | Path, checkpoint: str = "best", *, trust: bool | Config = False) -> Run:
    """Read a run folder; the data it was trained on is not needed.

    Args:
        run_dir: folder written by `activsparse train --out`.
        checkpoint: `best` (highest validation score with final masks) or `last`.
        trust: whether its config.yaml may name code of its own (an import path as `model.name`)
            that is then called; or a trusted recipe, which allows what that one names itself. See
            docs/security.md.

    Raises:
        ActivsparseError: no run folder, no such checkpoint yet, a checkpoint of another recipe, or
            code that is not trusted.
    """
    folder = Path(run_dir)
    config = read_run_config(folder, trust)
    file = folder / f"{checkpoint}.ckpt"
    if not file.is_file():
        raise ActivsparseError(
            f"{file}: no such checkpoint; finish the run with ",
            Call("activsparse.train.trainer.resume", (str(folder),)),
        )
    content = read_checkpoint(file)
    shape, num_classes = content["activsparse"]["shape"], content["activsparse"]["num_classes"]
    model = build_model(
        config.model.name,
        num_classes,
        in_channels=shape[0],
        small_images=config.model.small_images,
        **config.model.options,
    )
    example = example_input(shape)
    sparsifier = make_sparsifier(model, example, config, total_steps=1)
    try:
        model.load_state_dict(trained_weights(content["state_dict"]))
    except (RuntimeError, TypeError, ActivsparseError) as error:
        lines = str(error).splitlines()
        reason = lines[min(1, len(lines) - 1)].strip()
        raise ActivsparseError(
            f"{file}: does not fit {folder / 'config.yaml'} ({reason}); restore the configuration "
            "it was trained with"
        ) from error
    return Run(model.eval(), sparsifier, config, example, num_classes)


_INNER = ("masked", "dense")
"""Runs within a folder of `activsparse sparsify`."""


def read_run_config(folder: Path, trust: bool | Config = False) -> Config:
    """The recipe of a run folder.

    Raises:
        ActivsparseError: no run folder, a damaged config.yaml, or one that names code which is not
            trusted.
    """
    file = folder / "config.yaml"
    if not file.is_file():
        if not folder.exists():
            raise ActivsparseError(f"{folder}: no such folder; check the path")
        inner = next((n for n in _INNER if (folder / n / file.name).is_file()), None)
        remedy = (
            "one that activsparse train wrote" if inner is None else f"the run {folder / inner}"
        )
        raise ActivsparseError(f"{folder}: is no run folder (it has no config.yaml); name {remedy}")
    config = read_config(file)
    check_trust(config, str(file), trust)
    return config


def read_checkpoint(file: Path) -> dict[str, Any]:
    """The content of a checkpoint of `activsparse train`: weights, numbers and text, never code.

    Raises:
        ActivsparseError: it is cut, empty, of another program, or holds other objects.
    """
    try:
        content = read_tensors(require_file(file))
        told = content["activsparse"]
        numbers = [*told["shape"], told["num_classes"]]
        whole = len(numbers) == 4 and all(type(n) is int and n > 0 for n in numbers)
        if not whole or not all(isinstance(key, str) for key in content["state_dict"]):
            raise ValueError
    except Exception as error:  # whatever a damaged file makes the unpickler raise
        raise ActivsparseError(
            f"{file}: is not a checkpoint of activsparse train, or damaged "
            f"({type(error).__name__}); restore it, or delete it to train again"
        ) from error
    return dict(content)


def write_network(
    folder: Path, model: nn.Module, config: Config, shape: Sequence[int], num_classes: int
) -> None:
    """Make a run folder of a network as it is, with nothing to go on from.

    Args:
        folder: created.
        model: whose state becomes best.ckpt.
        config: the recipe that makes this network, and the masks it holds.
        shape: (C, H, W) of its input.
        num_classes: outputs of the model.
    """
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "state_dict": {f"model.{k}": v for k, v in model.state_dict().items()},
        "activsparse": {"shape": list(shape), "num_classes": num_classes},
    }
    with atomic_path(folder / "best.ckpt") as path:
        file = io.BytesIO()
        torch.save(content, file)  # into memory, for into a file torch does not say why it fails
        path.write_bytes(file.getvalue())
    with atomic_path(folder / "config.yaml") as path:
        path.write_text(dump_config(config), encoding="utf-8")


def example_input(shape: tuple[int, int, int] | list[int]) -> Tensor:
    """A fixed normal random image (1, C, H, W)."""
    return torch.randn(1, *shape, generator=torch.Generator().manual_seed(0))


def make_sparsifier(
    model: nn.Module, example: Tensor, config: Config, total_steps: int
) -> Sparsifier | None:
    """The Sparsifier a configuration asks for; None if it asks for none.

    Raises:
        ActivsparseError: see `Sparsifier`; options are named as the recipe's keys.
    """
    if config.sparsity is None:
        return None
    section = config.sparsity
    try:
        return Sparsifier(
            model,
            example,
            options=section,
            schedule=section.schedule,
            initial_sparsity=section.initial_sparsity,
            begin=section.begin,
            end=section.end,
            frequency=section.frequency,
            total_steps=total_steps,
            seed=config.seed,
            plan=None if section.plan is None else recipe_plan(section.plan),
        )
    except ActivsparseError as error:
        raise in_recipe(error) from error


def recipe_plan(plan: str | dict[str, Any]) -> MaskPlan:
    """The mask plan in a recipe's `sparsity.plan`: a file's, or the content.

    Raises:
        ActivsparseError: it is none.
    """
    return read_mask_plan(plan) if isinstance(plan, str) else plan_of(plan, "sparsity.plan")


def held_out_batches(config: Config, images: int) -> list[tuple[Tensor, Tensor]]:
    """The first `images` validation images of a recipe's data, in batches with their labels.

    Raises:
        ActivsparseError: data that cannot be found.
    """
    data = build_data(**config.data.model_dump(), seed=config.seed)
    batches: list[tuple[Tensor, Tensor]] = []
    left = images
    for x, y in data.val_dataloader():
        # Boxes are numbered by their image.
        batches.append((x[:left], y[:left] if y.ndim == 1 else y[y[:, 0] < left]))
        left -= len(x)
        if left <= 0:
            break
    return batches
