"""What `activsparse sparsify` can be asked for, and the recipe that follows from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from activsparse.data.registry import BOXES, CLASSIFICATION
from activsparse.detect.yolo import is_described
from activsparse.errors import ActivsparseError, Option
from activsparse.names import suggest
from activsparse.train.recipes.config import Config
from activsparse.train.recipes.read import load_config

__all__ = [
    "ALTERNATIVES",
    "DENSE_LONGER",
    "FULL",
    "QUICK",
    "SMALLER_INPUT",
    "Effort",
    "SparsifyOptions",
    "recipe_of",
]

RECIPE, DETECTOR_RECIPE = "finetune", "finetune_detector"

SMALLER_INPUT, DENSE_LONGER = "smaller input", "dense longer"
ALTERNATIVES = (SMALLER_INPUT, DENSE_LONGER)
"""Networks without masks that are trained alike, by the names that tables have of them."""

_SMALL = ("digits", "fashion_mnist", "cifar10", "cifar100")
"""Data sets of images of about 32 pixels."""
_SMALL_SIZE = 32
_SMALL_STEM = 64
"""Images up to this size get a stem for small ones."""


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        images: training images that losses under masks are measured on.
        masks: of each pattern and layer.
        rounds: how often losses are measured again around the solution.
        repeat: timed runs of each network and engine.
        calibration: training images that int8's ranges are found on.
    """

    images: int
    masks: int
    rounds: int
    repeat: int
    calibration: int


FULL = Effort(images=256, masks=4, rounds=2, repeat=100, calibration=300)
QUICK = Effort(images=64, masks=2, rounds=1, repeat=30, calibration=64)

_QUICK = {"data.limit": 512, "dense.epochs": 3, "training.epochs": 2}
_FROM_NOTHING = {"dense.epochs": 30, "dense.lr": 1e-3}
"""Of the dense phase of a classifier that starts from random weights."""


@dataclass(frozen=True)
class SparsifyOptions:
    """What is to be done; equal options continue what others of them began.

    Attributes:
        model: name of the network, see `activsparse.models.build_model`.
        data: a folder of images, `CLASS/*` or `train/CLASS/*`, or the name of a data set.
        target_speedup: how many times as fast as the dense network, in this engine.
        weights: a file, `default` for the published ones, None for random ones.
        input_size: (H, W) of the network's input.
        batch_size: training images per step.
        dense_epochs: of the dense network, before masks; 0 takes it as it is.
        epochs: with masks.
        quick: a trial in minutes: few epochs, few images.
        int8: whether both networks are quantised as well, and timed beside.
        alternatives: of `ALTERNATIVES`, each once, trained and timed beside.
        threads: of the engines.
        engines: other engines to time; None for those that are installed.
        fallback: as of `Session`, wherever this engine runs one of the networks.
        settings: `key=value` of the recipe, over all of the above.
    """

    model: str
    data: str
    target_speedup: float
    weights: str | None = None
    input_size: tuple[int, int] | None = None
    batch_size: int | None = None
    dense_epochs: int | None = None
    epochs: int | None = None
    quick: bool = False
    int8: bool = False
    alternatives: tuple[str, ...] = ()
    threads: int = 1
    engines: tuple[str, ...] | None = None
    fallback: str | None = None
    settings: tuple[str, ...] = ()

    @property
    def effort(self) -> Effort:
        """How much is measured."""
        return QUICK if self.quick else FULL


def recipe_of(options: SparsifyOptions) -> Config:
    """The recipe, with its dense phase; masks are still those of the recipe `finetune`.

    Raises:
        ActivsparseError: no such data; a wrong key or value in `settings`.
    """
    name, root = _source(options.data)
    size = options.input_size
    if size is None and name in _SMALL:
        size = (_SMALL_SIZE, _SMALL_SIZE)
    values: dict[str, Any] = {
        "model.name": options.model,
        "model.weights": options.weights,
        "data.name": name,
        "data.root": root,
    }
    boxes = name in BOXES
    if options.weights is not None:
        values |= _normalisation(options.model)
    elif not boxes:
        values |= _FROM_NOTHING
    if options.quick:
        values |= _QUICK
    given = {
        "data.image_size": list(size) if size else None,
        "data.batch_size": options.batch_size,
        # 0 epochs are none, which no recipe can say.
        "dense.epochs": options.dense_epochs or None,
        "training.epochs": options.epochs,
    }
    values |= {key: value for key, value in given.items() if value is not None}
    if size is not None and max(size) <= _SMALL_STEM and not boxes and _is_adapted(options):
        values["model.small_images"] = True
    settings = [f"{key}={json.dumps(value)}" for key, value in values.items()]
    return load_config(DETECTOR_RECIPE if boxes else RECIPE, [*settings, *options.settings])


def _normalisation(model: str) -> dict[str, Any]:
    """Of the images that a timm network's published weights were trained on."""
    if not model.startswith("timm:"):
        return {}
    import timm

    name = model.removeprefix("timm:")
    found = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    return {} if found is None else {"data.mean": [*found.mean], "data.std": [*found.std]}


def _is_adapted(options: SparsifyOptions) -> bool:
    """Whether the network is one whose stem may be changed: not one's own, not own weights."""
    foreign = ":" in options.model and not options.model.startswith("timm:")
    return not foreign and options.weights in (None, "default")


def _source(data: str) -> tuple[str, str | None]:
    """Name and root of the data."""
    folder = Path(data).expanduser()
    if folder.is_dir():
        return _layout_of(folder), str(folder.resolve())
    if data in BOXES:
        return data, None
    if data not in CLASSIFICATION or data == "image_folder":
        raise ActivsparseError(
            f"{data}: no such folder, and no data set of that name "
            f"({suggest(data, [n for n in CLASSIFICATION if n != 'image_folder'])}); name a folder "
            "of images, one sub-folder per class, in ",
            Option("data"),
        )
    return data, None


def _layout_of(folder: Path) -> str:
    """How a folder's images are laid out: as COCO, VOC or YOLO have boxes, or by class."""
    if any((folder / "annotations").glob("*.json")):
        return "coco"
    if (folder / "VOCdevkit").is_dir():
        return "voc"
    if (folder / "Annotations").is_dir() and (folder / "JPEGImages").is_dir():
        raise ActivsparseError(
            f"{folder}: is a year of Pascal VOC; name the folder that holds its VOCdevkit in ",
            Option("data"),
        )
    labelled = [folder / "labels", folder / "train" / "labels"]
    if any(any(place.rglob("*.txt")) for place in labelled) or is_described(folder):
        return "yolo"
    return "image_folder"
