"""Where the blocks of a program lie in the arena, now that its algorithms are chosen."""

from __future__ import annotations

from collections.abc import Sequence

from activsparse import _native
from activsparse.engine.memory import Lifetime, assign_offsets
from activsparse.engine.program import Tensor

__all__ = ["PackedStep", "lay_out"]

PackedStep = tuple[_native.PackedOperator, list[int], list[int]]
"""An operator, ids of the tensors it reads and of those it writes."""

# Algorithms of convolutions that write every result once, and have read the residual there by then.
# (`direct` and `active_taps` keep partial sums in the output.)
_READ_BEFORE_WRITTEN = (
    *("pointwise", "winograd2", "winograd4", "winograd6"),
    *("direct_f16", "depthwise_f16"),
)


def lay_out(
    tensors: Sequence[Tensor],
    block_bytes: Sequence[int],
    steps: Sequence[PackedStep],
    in_place: bool,
) -> tuple[list[int], int]:
    """Return the offset of every block, in bytes, and the size of the arena.

    Args:
        tensors: of the program.
        block_bytes: size of every block of memory.
        steps: in execution order.
        in_place: whether a convolution may write its result over its residual, if nothing else
            reads that. One core then writes to memory it has just read; with several, where the
            lines may be another's, it takes longer than memory of its own.
    """
    lives = _lifetimes(tensors, block_bytes, steps)
    home = list(range(len(lives)))  # the block whose memory each one shares
    for time, step in enumerate(steps if in_place else ()):
        pair = _residual_and_result(tensors, step)
        if pair is None:
            continue
        residual, result = pair
        if lives[residual].last == time == lives[result].first:
            home[result] = home[residual]
    homes = sorted(set(home))
    merged = [_joined([lives[i] for i, at in enumerate(home) if at == block]) for block in homes]
    offsets, total = assign_offsets(merged)
    return [offsets[homes.index(at)] for at in home], total


def _lifetimes(
    tensors: Sequence[Tensor], block_bytes: Sequence[int], steps: Sequence[PackedStep]
) -> list[Lifetime]:
    touched: list[list[int]] = [[] for _ in block_bytes]
    for time, (_, inputs, outputs) in enumerate(steps):
        for tensor in (*inputs, *outputs):
            block = tensors[tensor].block
            if block is not None:
                touched[block].append(time)
    return [
        Lifetime(size, min(times, default=0), max(times, default=0))
        for size, times in zip(block_bytes, touched, strict=True)
    ]


def _residual_and_result(tensors: Sequence[Tensor], step: PackedStep) -> tuple[int, int] | None:
    """The blocks of a convolution's residual and result, if one may take the other's place."""
    packed, inputs, outputs = step
    if packed.kind != "conv" or packed.algorithm not in _READ_BEFORE_WRITTEN or len(inputs) < 2:
        return None
    x, residual, result = (tensors[i] for i in (*inputs, *outputs))
    if residual.block is None or result.block is None or x.block == residual.block:
        return None
    if residual.offset or result.offset or _layout(residual) != _layout(result):
        return None
    return residual.block, result.block


def _layout(tensor: Tensor) -> tuple[int, ...]:
    d = tensor.desc
    return d.n, d.h, d.w, d.c, d.stride


def _joined(lives: Sequence[Lifetime]) -> Lifetime:
    return Lifetime(
        max(life.bytes for life in lives),
        min(life.first for life in lives),
        max(life.last for life in lives),
    )
