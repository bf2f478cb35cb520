"""An exponential moving average of a network's weights, which is what is validated and kept.

Lightning's own callback averages masks like weights, and leaves the average out of checkpoints that
hold weights only; so torch's `AveragedModel` is used directly (`train.callbacks.averaging`).
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

__all__ = ["make_average"]


def make_average(model: nn.Module, decay: float) -> AveragedModel:
    """A copy of `model` for its average: average <- d average + (1 - d) weight at each update.

    After n updates d = min(decay, (1 + n) / (10 + n)), as in TensorFlow's
    `ExponentialMovingAverage` with `num_updates`, so that a short run does not end near its start.
    The norms' running statistics are averaged alike, for they must fit the averaged weights.
    """
    average = AveragedModel(model, multi_avg_fn=partial(_follow, decay=decay), use_buffers=True)
    return average.requires_grad_(False)


@torch.no_grad()
def _follow(
    averages: list[Tensor], values: list[Tensor], updates: Tensor | int, *, decay: float
) -> None:
    now = min(decay, (1 + int(updates)) / (10 + int(updates)))
    if averages[0].is_floating_point():
        torch._foreach_lerp_(averages, values, 1 - now)
    else:  # counters
        torch._foreach_copy_(averages, values)
