"""Training a detector: data, anchors, masks and the loop put together."""

from __future__ import annotations

import csv
import json
import logging
import time
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
import torch
from pydantic import BaseModel, ConfigDict, PositiveInt
from torch.utils.data import Dataset

from activsparse.detect.anchors import kmeans_anchors
from activsparse.detect.data import Cached, DetectionData, measured_sizes
from activsparse.detect.module import Detector
from activsparse.detect.sample import Sample
from activsparse.detect.scenes import Scenes
from activsparse.errors import ActivsparseError
from activsparse.files import atomic_path
from activsparse.models.yolov5 import YoloV5, yolov5n, yolov5s
from activsparse.train import Sparsifier
from activsparse.train.callback import SparsifierCallback
from activsparse.train.config import SparsitySection, TrainingSection

__all__ = ["DetectionConfig", "load_detector", "train_detector"]

_log = logging.getLogger(__name__)
_MODELS = {"yolov5n": yolov5n, "yolov5s": yolov5s}
_CHECKPOINT = "detector.pt"


class DetectionConfig(BaseModel):
    """What is trained, on what, and how.

    `data` is `fashion-scenes` (made on the spot, `pictures` of them, half as many times `held_out`
    to evaluate), `voc` or `coco`; the latter two lie in `root`, COCO with the usual names of its
    files. `init_from` is the folder of an earlier run whose weights and anchors are taken over.
    """

    model_config = ConfigDict(extra="forbid")

    model: Literal["yolov5n", "yolov5s"] = "yolov5n"
    data: Literal["fashion-scenes", "voc", "coco"] = "fashion-scenes"
    root: str | None = None
    pictures: PositiveInt = 2000
    held_out: PositiveInt = 400
    image_size: PositiveInt = 192
    batch_size: PositiveInt = 16
    mosaic: float = 0.5
    workers: int = 0
    seed: int = 0
    evaluate_every: PositiveInt = 5
    init_from: str | None = None
    training: TrainingSection = TrainingSection(
        epochs=40, optimizer="adamw", lr=2e-3, schedule="cosine", warmup=0.05, weight_decay=5e-4
    )
    sparsity: SparsitySection | None = None


def _datasets(config: DetectionConfig) -> tuple[Dataset[Sample], Dataset[Sample], int]:
    if config.data == "fashion-scenes":
        train = Scenes(config.pictures, "train", config.seed, config.root)
        held_out = Scenes(config.held_out, "test", config.seed, config.root)
        return Cached(train), Cached(held_out), train.num_classes
    from activsparse.detect.formats import Coco, Voc

    if config.root is None:
        raise ActivsparseError(f"data {config.data} needs root, the folder it lies in")
    if config.data == "voc":
        voc = Voc(config.root, "train"), Voc(config.root, "val")
        return *voc, Voc.num_classes
    folder = Path(config.root)
    first, second = (
        Coco(
            str(folder / f"{part}2017"), str(folder / "annotations" / f"instances_{part}2017.json")
        )
        for part in ("train", "val")
    )
    return first, second, first.num_classes


def train_detector(config: DetectionConfig, out: str | Path) -> dict[str, Any]:
    """Train and write `config.json`, `metrics.csv`, `summary.json` and the weights into `out`.

    Returns:
        The summary: `map50`, `map`, `seconds`, `achieved` sparsity.

    Raises:
        ActivsparseError: data that is not there, an image size that does not fit the strides.
    """
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    if config.image_size % 32:
        raise ActivsparseError(f"image_size {config.image_size}: must be a multiple of 32")
    pl.seed_everything(config.seed, verbose=False)
    train, held_out, classes = _datasets(config)
    size = (config.image_size, config.image_size)
    data = DetectionData(
        train,
        held_out,
        size,
        config.batch_size,
        seed=config.seed,
        workers=config.workers,
        mosaic=config.mosaic,
    )
    if config.init_from is not None:
        model = load_detector(config.init_from)
    else:
        anchors = kmeans_anchors(measured_sizes(train, size), seed=config.seed)
        model = _MODELS[config.model](classes, anchors=anchors)
    steps = data.steps_per_epoch * config.training.epochs
    example = torch.zeros(1, 3, *size)
    metrics = _Metrics(folder)
    callbacks: list[pl.Callback] = [metrics]
    sparsifier = None
    if config.sparsity is not None:
        options = config.sparsity.model_dump()
        sparsifier = Sparsifier(model, example, **options, total_steps=steps, seed=config.seed)
        callbacks.insert(0, SparsifierCallback(sparsifier))
    model.to(memory_format=torch.channels_last)
    module = Detector(model, config.training, classes, steps)
    trainer = pl.Trainer(
        max_epochs=config.training.epochs,
        callbacks=callbacks,
        precision=config.training.precision if config.training.precision != "auto" else "32-true",
        gradient_clip_val=config.training.gradient_clip,
        check_val_every_n_epoch=min(config.evaluate_every, config.training.epochs),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        accelerator="auto",
        devices=1,
    )
    begin = time.perf_counter()
    trainer.fit(module, datamodule=data)
    seconds = time.perf_counter() - begin
    (result,) = trainer.validate(module, datamodule=data, verbose=False)
    summary = {
        "model": config.model,
        "classes": classes,
        "anchors": model.head.anchors.tolist(),
        "map50": result["map50"],
        "map": result["map"],
        "seconds": seconds,
        "requested": config.sparsity.sparsity if config.sparsity else 0.0,
        "achieved": sparsifier.achieved_sparsity if sparsifier else 0.0,
    }
    with atomic_path(folder / _CHECKPOINT) as temporary:
        torch.save(model.cpu().state_dict(), temporary)
    for name, content in (("summary", summary), ("config", config.model_dump())):
        with atomic_path(folder / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")
    return summary


def load_detector(run: str | Path, masks: bool = False) -> YoloV5:
    """Return the detector of a run, in evaluation mode.

    Args:
        run: the folder `train_detector` wrote.
        masks: with its masks, where it has any; else the dense network with the same weights.

    Raises:
        ActivsparseError: it is no such folder.
    """
    folder = Path(run)
    try:
        summary = json.loads((folder / "summary.json").read_text())
        config = DetectionConfig.model_validate_json((folder / "config.json").read_text())
        state = torch.load(folder / _CHECKPOINT, map_location="cpu", weights_only=True)
    except (OSError, ValueError) as error:
        raise ActivsparseError(f"{folder}: no finished run of a detector ({error})") from error
    model = _MODELS[config.model](summary["classes"], anchors=summary["anchors"])
    if config.sparsity is not None:
        example = torch.zeros(1, 3, config.image_size, config.image_size)
        sparsifier = Sparsifier(model, example, **config.sparsity.model_dump(), seed=config.seed)
        model.load_state_dict(state)
        if not masks:
            sparsifier.detach()
    else:
        model.load_state_dict(state)
    return model.eval()


class _Metrics(pl.Callback):
    """One row of metrics.csv per epoch, with the seconds since the start."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows: list[dict[str, float]] = []
        self.begin = 0.0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Start the clock."""
        self.begin = time.perf_counter()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write all rows so far."""
        values = {name: round(float(v), 5) for name, v in trainer.callback_metrics.items()}
        names = ("train_loss", "train_box", "train_object", "train_class", "map50", "map")
        evaluated = (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1) == 0
        known = names if evaluated else names[:4]  # else figures of an earlier epoch
        row = {"epoch": trainer.current_epoch, **{n: values[n] for n in known if n in values}}
        row["seconds"] = round(time.perf_counter() - self.begin, 1)
        self.rows.append(row)
        _log.info("%s", row)
        path = self.folder / "metrics.csv"
        with atomic_path(path) as temporary, temporary.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["epoch", *names, "seconds"])
            writer.writeheader()
            writer.writerows(self.rows)
