"""Optimisers and learning-rate schedules of recipes."""

from __future__ import annotations

import torch
from torch import nn
from torch.optim import lr_scheduler

from activsparse.train.recipes.config import TrainingSection

__all__ = ["make_optimizer", "make_scheduler"]


def make_optimizer(model: nn.Module, training: TrainingSection) -> torch.optim.Optimizer:
    """The recipe's optimiser; weight decay spares biases and norms (weights of rank 1)."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": training.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if training.optimizer == "sgd":
        return torch.optim.SGD(
            groups, training.lr, momentum=training.momentum, nesterov=training.momentum > 0
        )
    kind = torch.optim.Adam if training.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, training.lr)


def make_scheduler(
    optimizer: torch.optim.Optimizer, training: TrainingSection, total_steps: int
) -> lr_scheduler.LRScheduler:
    """The recipe's learning rate, stepped once per optimiser step.

    `linear` and `cosine` fall from `lr` to `final_lr * lr`; `one_cycle` rises from `lr / 25` during
    the first 30 % and falls to `final_lr * lr / 25`. A `warmup` (fraction of all steps) rises
    linearly from 1 % before the others begin.
    """
    if training.schedule == "one_cycle":
        return lr_scheduler.OneCycleLR(
            optimizer,
            training.lr,
            total_steps=max(total_steps, 2),
            final_div_factor=1 / max(training.final_lr, 1e-8),
        )
    warmup = round(training.warmup * total_steps)
    rest = max(total_steps - warmup, 1)
    main: lr_scheduler.LRScheduler
    if training.schedule == "linear":
        main = lr_scheduler.LinearLR(optimizer, 1.0, max(training.final_lr, 1e-8), rest)
    elif training.schedule == "cosine":
        lowest = training.final_lr * training.lr
        main = lr_scheduler.CosineAnnealingLR(optimizer, rest, lowest)
    else:
        main = lr_scheduler.ConstantLR(optimizer, 1.0)
    if warmup == 0:
        return main
    rising = lr_scheduler.LinearLR(optimizer, 0.01, 1.0, warmup)
    return lr_scheduler.SequentialLR(optimizer, [rising, main], [warmup])
