"""Carrying out a recipe: an optional dense phase, then training with masks, in one run folder."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import nn

from activsparse.data import ImageData, build_data
from activsparse.errors import ActivsparseError
from activsparse.files import atomic_path
from activsparse.models import build_model, load_weights
from activsparse.train.bookkeeping import Checkpoints, Metrics
from activsparse.train.callback import SparsifierCallback
from activsparse.train.config import Config
from activsparse.train.interrupt import Interruption
from activsparse.train.module import Classifier
from activsparse.train.progress import TrainingProgress
from activsparse.train.prune import follow_pruned
from activsparse.train.quiet import quiet_lightning
from activsparse.train.recipe import dump_config, read_config
from activsparse.train.run import example_input, load_run, make_sparsifier

__all__ = ["resume", "train"]

_log = logging.getLogger(__name__)


def train(config: Config, out: str | Path, *, console: Console | None = None) -> dict[str, Any]:
    """Train as `config` says and fill the new run folder `out`.

    Args:
        config: the recipe.
        out: run folder, created; must not hold a run.
        console: shows a progress bar there; without one each epoch is logged.

    Returns:
        The content of summary.json.

    Raises:
        ActivsparseError: bad options, data that cannot be had, a folder in use, a loss that is not
            finite.
        Interrupted: by SIGINT or SIGTERM; `resume` continues.
    """
    config = follow_pruned(config)
    folder = Path(out)
    if (folder / "config.yaml").exists():
        raise ActivsparseError(
            f"{folder}: holds a run already; name another folder with --out or continue it "
            f"with --resume {folder}"
        )
    # Mistakes in the recipe should show before the folder exists, and before a dense phase is over.
    data = _data(config)
    make_sparsifier(_network(config, data), example_input(data.shape), config, total_steps=1)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ActivsparseError(
            f"{folder}: cannot be created ({error.strerror}); choose a writable place"
        ) from error
    _write(folder / "config.yaml", dump_config(config))
    return _carry_out(config, folder, data, console)


def resume(out: str | Path, *, console: Console | None = None) -> dict[str, Any]:
    """Continue a stopped run where it stopped; of a finished one, return the summary.

    Raises:
        ActivsparseError: no run folder. Otherwise as `train`.
    """
    folder = Path(out)
    if not (folder / "config.yaml").is_file():
        raise ActivsparseError(
            f"{folder}: is no run folder (it has no config.yaml); start one with --out"
        )
    config = read_config(folder / "config.yaml")
    if (folder / "summary.json").is_file():
        _log.info("%s: is finished already", folder)
        return _read_summary(folder)
    return _carry_out(config, folder, _data(config), console)


def _carry_out(
    config: Config, folder: Path, data: ImageData, console: Console | None
) -> dict[str, Any]:
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    with Interruption() as interruption, quiet_lightning():
        dense = None
        main = config
        if config.dense is not None and config.init_from is None:
            dense_folder = folder / "dense"
            main = config.model_copy(update={"init_from": str(dense_folder)})
            if (dense_folder / "summary.json").is_file():
                dense = _read_summary(dense_folder)
            else:
                plain = config.model_copy(
                    update={"training": config.dense, "dense": None, "sparsity": None}
                )
                dense_folder.mkdir(exist_ok=True)
                _write(dense_folder / "config.yaml", dump_config(plain))
                dense = _phase(plain, dense_folder, data, interruption, console, "dense")
                # The second phase draws its batches from the start again.
                data.resume(0, 0)
        elif main.init_from is not None and (Path(main.init_from) / "summary.json").is_file():
            dense = _read_summary(Path(main.init_from))
        return _phase(
            main,
            folder,
            data,
            interruption,
            console,
            "dense" if config.sparsity is None else config.sparsity.pattern,
            dense,
        )


def _phase(
    config: Config,
    folder: Path,
    data: ImageData,
    interruption: Interruption,
    console: Console | None,
    title: str,
    dense: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Train one phase, from its last.ckpt if there is one, and write its summary."""
    options = config.training
    pl.seed_everything(config.seed, verbose=False)
    model = _network(config, data)
    steps = -(-data.steps_per_epoch // options.accumulate) * options.epochs
    sparsifier = make_sparsifier(model, example_input(data.shape), config, total_steps=steps)
    # A quarter faster on CPUs than the default layout, and more on GPUs.
    model.to(memory_format=torch.channels_last)
    module = Classifier(model, options, data.shape, data.num_classes, steps)
    metrics = Metrics(folder, sparsifier, announce=console is None)
    callbacks: list[pl.Callback] = [metrics]
    if sparsifier is not None:
        callbacks.insert(0, SparsifierCallback(sparsifier))
    if console is not None:
        callbacks.append(TrainingProgress(title, console, sparsifier))
    callbacks.append(Checkpoints(folder, sparsifier, data, interruption))
    trainer = pl.Trainer(
        accelerator=config.device,
        devices=1,
        max_epochs=options.epochs,
        precision=_precision(config),
        gradient_clip_val=options.gradient_clip,
        accumulate_grad_batches=options.accumulate,
        callbacks=callbacks,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    last = folder / "last.ckpt"
    trainer.fit(module, datamodule=data, ckpt_path=str(last) if last.is_file() else None)

    best = load_run(folder, "best")
    module.model = best.model
    (score,) = trainer.test(module, datamodule=data, verbose=False)
    summary: dict[str, Any] = {
        "recipe": config.recipe,
        "seed": config.seed,
        "top1": score["test_top1"],
        "val_top1": max((r["val_top1"] for r in metrics.rows if r["frozen"]), default=None),
        "tested_on": "test" if data.has_test else "validation",
        "epochs": options.epochs,
        "parameters": sum(p.numel() for p in best.model.parameters()),
        "seconds": metrics.rows[-1]["seconds"],
        "requested": 0.0,
        "achieved": 0.0,
        "kept_macs": 1.0,
        "layers": [],
        "dense": dense,
    }
    if best.sparsifier is not None and config.sparsity is not None:
        summary["requested"] = config.sparsity.sparsity
        summary["achieved"] = best.sparsifier.achieved_sparsity
        summary["kept_macs"] = best.sparsifier.kept_macs
        summary["layers"] = [asdict(layer) for layer in best.sparsifier.layers]
    _write(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
    return _read_summary(folder)


def _precision(config: Config) -> Any:
    if config.training.precision != "auto":
        return config.training.precision
    cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    return "16-mixed" if cuda else "32-true"


def _data(config: Config) -> ImageData:
    options = config.data.model_dump()
    return build_data(**options, seed=config.seed)


def _network(config: Config, data: ImageData) -> nn.Module:
    """The network with the weights it starts from."""
    start = None if config.init_from is None else Path(config.init_from)
    model = build_model(
        config.model.name,
        data.num_classes,
        config.model.weights if start is None else None,
        in_channels=data.shape[0],
        small_images=config.model.small_images,
        **config.model.options,
    )
    if start is not None and start.is_dir():
        best = start / "best.ckpt"
        load_weights(model, best if best.is_file() else start / "last.ckpt")
    elif start is not None:
        load_weights(model, start)
    return model


def _read_summary(folder: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    except ValueError as error:
        raise ActivsparseError(
            f"{folder / 'summary.json'}: is not JSON ({error}); delete it and resume the run"
        ) from error
    return content


def _write(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text)
