"""What a training run can be told: one pydantic model per section of a recipe."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from activsparse.errors import ActivsparseError, Named, Option
from activsparse.masks import MaskOptions
from activsparse.names import suggest

__all__ = [
    "Config",
    "DataSection",
    "DistillationSection",
    "ModelSection",
    "SearchSection",
    "SparsitySection",
    "TrainingSection",
    "in_recipe",
    "parse_config",
]

Fraction = Annotated[float, Field(ge=0, le=1)]
PositiveInt = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ModelSection(_Section):
    """The network: see `activsparse.models.build_model`."""

    name: str = "small_resnet"
    weights: str | None = None
    small_images: bool = False
    options: dict[str, Any] = {}


class DataSection(_Section):
    """The images: see `activsparse.data.build_data`; `batch_size` counts all processes."""

    name: str = "digits"
    root: str | None = None
    image_size: PositiveInt | tuple[PositiveInt, PositiveInt] = 32
    channels: Literal[1, 3] | None = None
    batch_size: PositiveInt = 64
    augment: bool = True
    crop: Annotated[float, Field(gt=0, le=1)] = 0.08
    auto_augment: Literal["trivial", "rand", "auto"] | None = None
    random_erasing: Fraction = 0.0
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    limit: PositiveInt | None = None
    mean: list[float] | None = None
    std: list[Annotated[float, Field(gt=0)]] | None = None
    workers: Annotated[int, Field(ge=0)] = 0
    options: dict[str, Any] = {}


class TrainingSection(_Section):
    """One phase of training; precision `auto` is 16-mixed on CUDA, else 32-true.

    `mixup` and `cutmix` are the parameters of their Beta distributions, 0 leaves them out.
    `save_every` writes last.ckpt every so many optimiser steps, besides each epoch. `ema` is the
    decay of an average of the weights, which then is what is validated and kept (see `average`).
    """

    epochs: PositiveInt = 10
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    momentum: Fraction = 0.9
    schedule: Literal["linear", "cosine", "one_cycle", "constant"] = "linear"
    final_lr: Fraction = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 5e-5
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    mixup: Annotated[float, Field(ge=0)] = 0.0
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    gradient_clip: Annotated[float, Field(gt=0)] | None = 10.0
    accumulate: PositiveInt = 1
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"
    freeze_norms: bool = False
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    save_every: PositiveInt | None = None


class DistillationSection(_Section):
    """A teacher whose softmax the network imitates in the phase with masks.

    `teacher` is `dense` (the run's own dense phase, or `init_from`) or a run folder; `model`, if
    given, describes a network with weights instead. The loss is `weight` times the divergence from
    the teacher, plus the label loss unless `only`. `mean` and `std` are the teacher's own, where
    its images were normalised in another way. With `image_size` training images are made at that
    size, which the teacher sees; the network learns on the same images shrunk to `data.image_size`.
    """

    teacher: str = "dense"
    model: ModelSection | None = None
    weight: Annotated[float, Field(gt=0)] = 5.0
    only: bool = False
    temperature: Annotated[float, Field(gt=0)] = 1.0
    image_size: PositiveInt | tuple[PositiveInt, PositiveInt] | None = None
    mean: list[float] | None = None
    std: list[Annotated[float, Field(gt=0)]] | None = None


@dataclass(frozen=True, kw_only=True)
class SparsitySection(MaskOptions):
    """Options of masks, and the schedule they follow: see `activsparse.train.Sparsifier`.

    `plan` is a mask plan, by its file in a recipe and as its content in a run's; it takes the place
    of all options of masks.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    skip_types: Sequence[str] = ()
    schedule: Literal["polynomial", "constant"] = "polynomial"
    initial_sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.0
    begin: Annotated[float, Field(ge=0, le=1)] = 0.1
    end: Annotated[float, Field(ge=0, le=1)] = 0.9
    frequency: PositiveInt = 1
    plan: str | dict[str, Any] | None = None


class SearchSection(_Section):
    """Choices made by measuring, beyond the published search.

    `target_speedup` chooses `sparsity.plan` before the phase with masks begins, so that the
    convolutions' estimated time falls to its inverse at the least loss; `spread` chooses it so that
    as many multiply-adds are skipped as with `sparsity.sparsity` in every layer. `importance`
    fills in what `sparsity.importance_weight` weighs. Once masks are frozen, `candidates` of them
    are compared by successive halving (0 or 1: no search), and `recalibrate` renews the norms'
    statistics. `batches` is how many batches are looked at: of training images
    without variation, since the held-out ones choose the best checkpoint.
    """

    candidates: Annotated[int, Field(ge=0)] = 0
    importance: Literal["magnitude", "taylor"] | None = None
    recalibrate: bool = False
    target_speedup: Annotated[float, Field(gt=1)] | None = None
    spread: bool = False
    batches: PositiveInt = 16


class Config(_Section):
    """A complete recipe.

    `dense`, if given, is a first phase that trains without masks; `sparsity: null` leaves the masks
    out altogether. `init_from` starts from the weights of an earlier run instead (a run folder or a
    file of weights) and replaces the dense phase.
    """

    recipe: str = "custom"
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    tensorboard: bool = False
    init_from: str | None = None
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    dense: TrainingSection | None = None
    training: TrainingSection = TrainingSection()
    sparsity: SparsitySection | None = SparsitySection()
    search: SearchSection = SearchSection()
    distillation: DistillationSection | None = None


def parse_config(values: dict[str, Any], where: str) -> Config:
    """Check a recipe's values. What the `dense` phase leaves out it takes from `training`.

    Args:
        values: nested mappings as read from YAML.
        where: name of the recipe or file, for errors.

    Raises:
        ActivsparseError: an unknown key or a wrong value; all of them in one line.
    """
    values = dict(values)
    own: Any = values.get("dense")
    if isinstance(own, dict) and isinstance(values.get("training", {}), dict):
        values["dense"] = {**values.get("training", {}), **own}
    try:
        return Config.model_validate(values)
    except ActivsparseError as error:  # of MaskOptions, which looks at options together
        raise ActivsparseError(f"{where}: ", in_recipe(error)) from None
    except ValidationError as error:
        problems: dict[str, list[Any]] = {}
        for found in error.errors(include_url=False):
            path = _path(found["loc"], values)
            inherited = path[0] == "dense" and len(path) > 1 and path[1] not in own
            if not inherited:
                # Each member of a union complains for itself; they share a key.
                problems.setdefault(".".join(path), []).append(found)
        described = "; ".join(_describe(path, found) for path, found in problems.items())
        raise ActivsparseError(f"{where}: {described}") from None


def in_recipe(error: ActivsparseError) -> ActivsparseError:
    """An error about options of masks, in the words of a recipe's `sparsity` section."""

    def spell(named: Named) -> str:
        return f"sparsity.{named}" if isinstance(named, Option) else str(named)

    return ActivsparseError(error.worded(spell))


def _path(location: tuple[str | int, ...], values: Any) -> list[str]:
    """The key as it is written in the recipe, without pydantic's names of union members."""
    path = []
    for part in location:
        try:
            values = values[part]
        except (KeyError, IndexError, TypeError):
            continue
        path.append(str(part))
    return path


def _describe(path: str, errors: list[Any]) -> str:
    first = errors[0]
    *parents, key = path.split(".")
    value = first["input"]
    if first["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key {path}; {suggest(key, _keys(parents))}"
    if first["type"] in ("model_type", "dataclass_type"):
        return f"{path} is a section, not a value; it has the keys {', '.join(_keys([key]))}"
    if first["type"] == "literal_error":
        valid = re.findall(r"'([^']*)'", first["ctx"]["expected"])
        return f"{path}: {value!r} is unknown; {suggest(str(value), valid)}"
    wanted = dict.fromkeys(
        "a pair" if e["type"] in ("missing", "tuple_type", "too_long") else _wish(e["msg"])
        for e in errors
    )
    return f"{path}: should be {' or '.join(wanted)}, not {value!r}"


def _wish(message: str) -> str:
    if "Sequence" in message:
        return "a list"
    return message.partition(",")[0].removeprefix("Input should be ")


def _keys(path: Iterable[str]) -> list[str]:
    section: type[BaseModel | MaskOptions] = Config
    for part in path:
        section = _SECTIONS.get(part, section)
    if issubclass(section, BaseModel):
        return list(section.model_fields)
    return [field.name for field in fields(section)]


_SECTIONS: dict[str, type[BaseModel | MaskOptions]] = {
    "model": ModelSection,
    "data": DataSection,
    "dense": TrainingSection,
    "training": TrainingSection,
    "search": SearchSection,
    "sparsity": SparsitySection,
    "distillation": DistillationSection,
}
