"""One phase of a run: a network trained in one run folder, with or without masks."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console
from torch import nn

from activsparse.data import BatchData
from activsparse.distributed import launched_processes
from activsparse.errors import ActivsparseError
from activsparse.models import build_model, load_weights
from activsparse.train.callbacks.averaging import Averaging
from activsparse.train.callbacks.checkpoints import Checkpoints, check_checkpoint
from activsparse.train.callbacks.masks import SparsifierCallback
from activsparse.train.callbacks.metrics import Metrics, TensorBoard
from activsparse.train.callbacks.progress import TrainingProgress
from activsparse.train.callbacks.search import SearchCallback
from activsparse.train.learning.distill import Teacher
from activsparse.train.prune import trained_run
from activsparse.train.recipes.config import Config
from activsparse.train.run.folder import example_input, load_run, make_sparsifier
from activsparse.train.run.interrupt import Interruption
from activsparse.train.tasks.task import check_task, fit_to_data, make_learner, teacher_type

__all__ = ["make_network", "make_teacher", "run_phase"]


def run_phase(
    config: Config,
    folder: Path,
    data: BatchData,
    interruption: Interruption,
    console: Console | None,
    title: str,
    trust: bool = False,
) -> dict[str, Any]:
    """Train from the folder's last.ckpt if there is one, and test the best checkpoint.

    Args:
        config: the recipe; its `dense` phase is ignored.
        folder: holds config.yaml.
        data: the images.
        interruption: asked after each step.
        console: for a progress bar.
        title: of the bar.
        trust: whether run folders that the recipe names may call code of their own.

    Returns:
        The content of summary.json, without the dense phase's.
    """
    options = config.training
    pl.seed_everything(config.seed, verbose=False)
    model = make_network(config, data)
    steps = -(-data.steps_per_epoch // options.accumulate) * options.epochs
    sparsifier = make_sparsifier(model, example_input(data.shape), config, total_steps=steps)
    # A quarter faster on CPUs than the default layout, and more on GPUs.
    model.to(memory_format=torch.channels_last)
    teacher = make_teacher(config, data, trust or config)
    module = make_learner(model, options, data, steps, teacher)
    best_by = f"val_{module.figures[0]}"
    metrics = Metrics(folder, sparsifier, announce=console is None)
    callbacks: list[pl.Callback] = []
    if sparsifier is not None:
        callbacks.append(SparsifierCallback(sparsifier))
    if module.average is not None:
        callbacks.append(Averaging(model, module.average, sparsifier))
    if sparsifier is not None:
        callbacks.append(SearchCallback(sparsifier, config.search))
    callbacks.append(metrics)
    if config.tensorboard:
        callbacks.append(TensorBoard(folder / "tensorboard", metrics, sparsifier))
    if console is not None:
        callbacks.append(TrainingProgress(title, console, sparsifier))
    callbacks.append(Checkpoints(folder, config, sparsifier, data, interruption, best_by))
    processes, machines = launched_processes()
    trainer = pl.Trainer(
        accelerator=config.device,
        devices=processes,
        num_nodes=machines,
        strategy="ddp" if processes * machines > 1 else "auto",
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
    resumed = last.is_file()
    if resumed:
        # Lightning unpickles whatever a checkpoint holds; this one is refused if that is objects.
        check_checkpoint(last, module, Checkpoints.__name__)
    trainer.fit(module, datamodule=data, ckpt_path=str(last) if resumed else None)

    best = load_run(folder, "best", trust=trust or config)
    module.model, module.average = best.model, None
    (score,) = trainer.test(module, datamodule=data, verbose=False)
    summary: dict[str, Any] = {
        "recipe": config.recipe,
        "seed": config.seed,
        **{name: score[f"test_{name}"] for name in module.figures},
        best_by: max((r[best_by] for r in metrics.rows if r["frozen"]), default=None),
        "tested_on": "test" if data.has_test else "validation",
        "epochs": options.epochs,
        "parameters": sum(p.numel() for p in best.model.parameters()),
        "seconds": metrics.rows[-1]["seconds"],
        "requested": 0.0,
        "achieved": 0.0,
        "kept_macs": 1.0,
        "layers": [],
    }
    if best.sparsifier is not None and config.sparsity is not None:
        summary["requested"] = config.sparsity.sparsity
        summary["achieved"] = best.sparsifier.achieved_sparsity
        summary["kept_macs"] = best.sparsifier.kept_macs
        summary["layers"] = [asdict(layer) for layer in best.sparsifier.layers]
    return summary


def make_network(config: Config, data: BatchData) -> nn.Module:
    """The network with the weights it starts from.

    Raises:
        ActivsparseError: it cannot be built, does not fit the data, or has nothing to train.
    """
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
    check_task(model, data)
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ActivsparseError(
            f"model {config.model.name}: has no weights to train (none requires gradients); leave "
            "them switched on"
        )
    if start is None and config.model.weights is None:
        fit_to_data(model, data)
    return model


def make_teacher(config: Config, data: BatchData, trust: bool | Config = False) -> Teacher | None:
    """The teacher a recipe asks for; None if it asks for none.

    Args:
        config: the recipe.
        data: what it is to know.
        trust: see `load_run`.

    Raises:
        ActivsparseError: there is no such teacher, or it knows other classes.
    """
    options = config.distillation
    if options is None:
        return None
    if options.image_size is not None:
        _check_teachers_size(options.image_size, data.shape[1:])
    if options.model is not None:
        if options.model.weights is None:
            raise ActivsparseError(
                f"distillation: teacher {options.model.name} has no weights; set "
                "distillation.model.weights to a file, or default"
            )
        network = build_model(
            options.model.name,
            data.num_classes,
            options.model.weights,
            in_channels=data.shape[0],
            small_images=options.model.small_images,
            **options.model.options,
        )
    else:
        folder = config.init_from if options.teacher == "dense" else options.teacher
        if folder is None:
            raise ActivsparseError(
                "distillation: the recipe has no dense phase to be the teacher; add dense:, or set "
                "distillation.teacher to a run folder or distillation.model"
            )
        # Pruning alone leaves a network that knows little.
        run = load_run(trained_run(folder), trust=trust)
        if run.num_classes != data.num_classes:
            raise ActivsparseError(
                f"{folder}: the teacher knows {run.num_classes} classes, the data have "
                f"{data.num_classes}; choose a teacher trained on the same classes"
            )
        network = run.model
    return teacher_type(data)(
        network.to(memory_format=torch.channels_last),
        data.mean,
        data.std,
        own_mean=options.mean,
        own_std=options.std,
        weight=options.weight,
        only=options.only,
        temperature=options.temperature,
    )


def _check_teachers_size(size: int | tuple[int, int], own: tuple[int, int]) -> None:
    height, width = (size, size) if isinstance(size, int) else size
    if height < own[0] or width < own[1]:
        raise ActivsparseError(
            f"distillation.image_size {height}x{width} is smaller than the images the network "
            f"learns on ({own[0]}x{own[1]}); a teacher sees at least those"
        )


def _precision(config: Config) -> Any:
    if config.training.precision != "auto":
        return config.training.precision
    cuda = config.device == "cuda" or (config.device == "auto" and torch.cuda.is_available())
    return "16-mixed" if cuda else "32-true"
