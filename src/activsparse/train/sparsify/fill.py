"""What a skipped position holds, at the least cost in training.

Both functions compute what their names say on any device. On CPUs in the channels-last layout,
where training is fastest, they take ways around torch operators that are slow there: multiplying by
a mask that is the same for all channels costs ten times as much as by one that names each, and the
gradient of a gather along positions three times as much as the two small ones below. Neither way is
taken while a model is compiled, traced or exported, so files hold plain operators.

Networks go on with activations that work in place. Autograd refuses those on a view that a function
of one's own returns, so the way for `nearest` returns a tensor that owns its memory.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["fill_nearest", "fill_zero"]


def fill_zero(maps: Tensor, mask: Tensor) -> Tensor:
    """Zero where `mask` is 0.

    Args:
        maps: (N, C, H, W).
        mask: float (1, 1, H, W) of 0 and 1.
    """
    mask = mask.to(maps.dtype)
    if _trains_in_rows(maps):
        size = (1, *maps.shape[1:])
        mask = mask.expand(size).contiguous(memory_format=torch.channels_last)
    return maps * mask


def fill_nearest(maps: Tensor, source: Tensor) -> Tensor:
    """Give each position the values of another one.

    Args:
        maps: (N, C, H, W).
        source: int64 (H*W,), flat index of the position to take; itself where a position is kept,
            which those it names must be.
    """
    if _trains_in_rows(maps):
        filled: Tensor = _NearestRows.apply(maps, source)
        return filled
    return maps.flatten(2).index_select(2, source).reshape(maps.shape)


def _trains_in_rows(maps: Tensor) -> bool:
    return (
        maps.requires_grad
        and maps.device.type == "cpu"
        and not torch.compiler.is_compiling()
        and not torch.jit.is_tracing()  # type: ignore[attr-defined,no-untyped-call]
        and maps.is_contiguous(memory_format=torch.channels_last)
    )


class _NearestRows(torch.autograd.Function):
    """`fill_nearest` of channels-last maps: positions are rows of channels."""

    @staticmethod
    def forward(ctx: Any, maps: Tensor, source: Tensor) -> Tensor:
        ctx.save_for_backward(source)
        filled = torch.empty_like(maps, memory_format=torch.channels_last)
        torch.index_select(_rows(maps), 1, source, out=_rows(filled))
        return filled

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (source,) = ctx.saved_tensors
        rows = _rows(gradient)
        holes = (source != torch.arange(len(source), device=source.device)).nonzero().flatten()
        total = rows.clone()
        total.index_add_(1, source[holes], rows.index_select(1, holes))
        total.index_fill_(1, holes, 0)
        n, c, h, w = gradient.shape
        return total.reshape(n, h, w, c).permute(0, 3, 1, 2), None


def _rows(maps: Tensor) -> Tensor:
    """(N, C, H, W) as (N, H*W, C); a view in the channels-last layout."""
    return maps.permute(0, 2, 3, 1).flatten(1, 2)
