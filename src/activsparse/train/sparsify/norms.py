"""Batch norms under new masks: their running statistics belong to the network before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from activsparse.distributed import mean_over_ranks, world_size
from activsparse.train.sparsify.modes import evaluating

__all__ = ["batch_statistics", "recalibrate_norms"]

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, but norms use each batch's own statistics and keep their running ones.

    So networks that differ in masks alone are compared as each would be after recalibration.
    """
    norms = _norms(model)
    # By name: a masked norm has buffers of its mask, which may change meanwhile.
    kept = [{name: norm.get_buffer(name).clone() for name in _STATISTICS} for norm in norms]
    try:
        with evaluating(model):
            for norm in norms:
                norm.training = True
            yield
    finally:
        for norm, buffers in zip(norms, kept, strict=True):
            for name, value in buffers.items():
                norm.get_buffer(name).copy_(value)


@torch.no_grad()
def recalibrate_norms(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace the running statistics of all batch norms by the mean over `batches`.

    Everything else stays as it is, weights and modes included. Frozen norms (no running statistics)
    are left alone. Under data parallelism the mean is that over all processes.

    Args:
        model: with its masks.
        batches: images (N, C, H, W) as in training; a few thousand are plenty.
    """
    norms = _norms(model)
    momenta = [norm.momentum for norm in norms]
    try:
        with evaluating(model):
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # the mean of all batches so far
                norm.training = True
            for images in batches:
                model(images)
        for norm in norms:
            for name in ("running_mean", "running_var"):
                statistic = norm.get_buffer(name)
                statistic.copy_(mean_over_ranks(statistic))
            norm.get_buffer("num_batches_tracked").mul_(world_size())
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [
        module
        for module in model.modules()
        if isinstance(module, _BatchNorm) and module.track_running_stats
    ]
