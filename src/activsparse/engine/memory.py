"""Where tensors lie in the arena: two that are never alive at the same time may share memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["ALIGNMENT", "LINE_BYTES", "Lifetime", "assign_offsets"]

# Pixels are whole groups of so many channels: a cache line of float32, what a vector of sums of
# uint8 products makes.
ALIGNMENT = 16

# Offsets are multiples of a cache line.
LINE_BYTES = 64


@dataclass(frozen=True)
class Lifetime:
    """One block of memory: its size and the first and last step (both inclusive) that touch it."""

    bytes: int
    first: int
    last: int

    def overlaps(self, other: Lifetime) -> bool:
        """Whether both are alive during some step."""
        return self.first <= other.last and other.first <= self.last


def assign_offsets(blocks: Sequence[Lifetime]) -> tuple[list[int], int]:
    """Place every block, the largest first, into the smallest gap that holds it for its whole life.

    Returns:
        The offset of each block and the size of the arena, both in bytes.
    """
    offsets = [0] * len(blocks)
    placed: list[int] = []
    total = 0
    for i in sorted(range(len(blocks)), key=lambda i: (-blocks[i].bytes, blocks[i].first)):
        size = -(-blocks[i].bytes // LINE_BYTES) * LINE_BYTES
        taken = sorted(
            (offsets[j], offsets[j] + -(-blocks[j].bytes // LINE_BYTES) * LINE_BYTES)
            for j in placed
            if blocks[j].overlaps(blocks[i])
        )
        offsets[i] = _best_gap(taken, size)
        total = max(total, offsets[i] + size)
        placed.append(i)
    return offsets, total


def _best_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """Start of the smallest gap of at least `size` between the ranges; else their end."""
    best, best_size, end = -1, 0, 0
    for begin, stop in taken:
        gap = begin - end
        if gap >= size and (best < 0 or gap < best_size):
            best, best_size = end, gap
        end = max(end, stop)
    return best if best >= 0 else end
