"""What each process of a run has for itself: random numbers, and figures of the epoch so far."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import nn
from torchmetrics import Metric

__all__ = ["restore", "start_stream", "stream"]


def start_stream(seed: int, rank: int, step: int) -> None:
    """Begin a stream of random numbers (dropout, mixtures of images) of a process's own.

    Initial weights and masks do not come from it.
    """
    words = np.random.SeedSequence([seed, rank, step]).generate_state(1)
    pl.seed_everything(int(words[0]), verbose=False)


def stream(module: nn.Module | None) -> dict[str, Any]:
    """This process's state.

    Args:
        module: a `Learner` within an epoch, whose figures are noted; None between epochs.
    """
    return {
        "cpu": torch.get_rng_state(),
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_available() else [],
        "figures": {} if module is None else {n: _state(m) for n, m in _figures(module).items()},
    }


def restore(state: dict[str, Any], module: pl.LightningModule) -> None:
    """Continue from there, on the device the process has now."""
    torch.set_rng_state(state["cpu"].cpu())
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"][0].cpu())
    for name, metric in _figures(module).items():
        for key, value in state.get("figures", {}).get(name, {}).items():
            setattr(metric, key, value.to(module.device))


def _figures(module: nn.Module) -> dict[str, Metric]:
    """What a `Learner` averages over the training batches of an epoch."""
    return {
        name: part
        for name, part in module.named_modules()
        if isinstance(part, Metric) and name.startswith("train_")
    }


def _state(metric: Metric) -> dict[str, torch.Tensor]:
    values = metric.metric_state.items()
    return {key: value.detach().cpu() for key, value in values if isinstance(value, torch.Tensor)}
