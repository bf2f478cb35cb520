"""What a training run can be told: one pydantic model per section of a recipe."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from activsparse.errors import ActivsparseError
from activsparse.train.names import suggest

__all__ = [
    "Config",
    "DataSection",
    "ModelSection",
    "SparsitySection",
    "TrainingSection",
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
    options: dict[str, Any] = {}


class DataSection(_Section):
    """The images: see `activsparse.data.build_data`."""

    name: str = "digits"
    root: str | None = None
    image_size: PositiveInt | tuple[PositiveInt, PositiveInt] = 32
    channels: Literal[1, 3] | None = None
    batch_size: PositiveInt = 64
    augment: bool = True
    validation: Annotated[float, Field(gt=0, lt=1)] = 0.1
    workers: Annotated[int, Field(ge=0)] = 0


class TrainingSection(_Section):
    """One phase of training; precision `auto` is 16-mixed on CUDA, else 32-true."""

    epochs: PositiveInt = 10
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: Annotated[float, Field(gt=0)] = 1e-3
    momentum: Fraction = 0.9
    schedule: Literal["linear", "cosine", "one_cycle", "constant"] = "linear"
    final_lr: Fraction = 0.01
    warmup: Annotated[float, Field(ge=0, lt=1)] = 0.0
    weight_decay: Annotated[float, Field(ge=0)] = 5e-5
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.1
    gradient_clip: Annotated[float, Field(gt=0)] | None = 10.0
    accumulate: PositiveInt = 1
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"] = "auto"


class SparsitySection(_Section):
    """Options of `activsparse.train.Sparsifier`."""

    sparsity: float = 0.3
    pattern: str = "tiles"
    block: int = 1
    fill: str = "zero"
    site: str = "norm"
    criterion: str = "lnorm"
    per_layer: dict[str, float] = {}
    skip: list[str] = []
    skip_types: list[str] = []
    skip_kernel_sizes: list[int | tuple[int, int]] = []
    skip_stem: bool = True
    skip_shortcuts: bool = True
    schedule: str = "polynomial"
    initial_sparsity: float = 0.0
    begin: float = 0.1
    end: float = 0.9
    frequency: int = 1


class Config(_Section):
    """A complete recipe.

    `dense`, if given, is a first phase that trains without masks; `sparsity: null` leaves the masks
    out altogether. `init_from` starts from the weights of an earlier run instead (a run folder or a
    file of weights) and replaces the dense phase.
    """

    recipe: str = "custom"
    seed: Annotated[int, Field(ge=0)] = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: PositiveInt | None = None
    init_from: str | None = None
    model: ModelSection = ModelSection()
    data: DataSection = DataSection()
    dense: TrainingSection | None = None
    training: TrainingSection = TrainingSection()
    sparsity: SparsitySection | None = SparsitySection()


def parse_config(values: dict[str, Any], where: str) -> Config:
    """Check a recipe's values. What the `dense` phase leaves out it takes from `training`.

    Args:
        values: nested mappings as read from YAML.
        where: name of the recipe or file, for errors.

    Raises:
        ActivsparseError: an unknown key or a wrong value; all of them in one line.
    """
    values = dict(values)
    if isinstance(values.get("dense"), dict) and isinstance(values.get("training", {}), dict):
        values["dense"] = {**values.get("training", {}), **values["dense"]}
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        problems = dict.fromkeys(_describe(e) for e in error.errors())
        raise ActivsparseError(f"{where}: {'; '.join(problems)}") from None


def _describe(error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        *parents, key = error["loc"]
        return f"unknown key {path}; {suggest(str(key), _keys(parents))}"
    if error["type"] == "model_type":
        keys = ", ".join(_keys(error["loc"]))
        return f"{path} is a section, not a value; it has the keys {keys}"
    message = error["msg"][0].lower() + error["msg"][1:]
    return f"{path}: {message}, not {error['input']!r}"


def _keys(path: Any) -> list[str]:
    section: type[BaseModel] = Config
    for part in path:
        section = _SECTIONS.get(str(part), section)
    return list(section.model_fields)


_SECTIONS: dict[str, type[BaseModel]] = {
    "model": ModelSection,
    "data": DataSection,
    "dense": TrainingSection,
    "training": TrainingSection,
    "sparsity": SparsitySection,
}
