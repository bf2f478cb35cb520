"""Which convolutions share a phase of a regular pattern, and which must not."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence

__all__ = ["assign_phases"]


def assign_phases(
    blocks: Sequence[int],
    sources: Sequence[int | None],
    pointwise: Sequence[bool],
    sums: Iterable[tuple[int, int]],
) -> list[int]:
    """A phase for the pattern of each convolution, in the order of execution.

    The convolutions of a residual block share a phase, so that skipped outputs meet skipped
    inputs, and the next block has another, with two exceptions. A 1x1 convolution sees one position
    of its input: it takes the phase of the layer that leaves zeros there, or it would compute
    positions where it sees nothing. And two layers whose outputs are added directly, as where a
    residual block begins at a projection, have different phases, or the sum would keep their holes.

    Args:
        blocks: for each convolution, how many residual additions lie before it; its own index in a
            network without residual additions.
        sources: for each, the index of the convolution whose holes are zeros in its input, or None.
        pointwise: for each, whether it is 1x1 of stride 1.
        sums: pairs of convolutions whose outputs are added, zeros of both still in place.
    """
    # The later of two added branches starts after the earlier one's last convolution.
    turns = sorted({min(pair) for pair in sums})
    phases: list[int] = []
    for index, (block, source) in enumerate(zip(blocks, sources, strict=True)):
        if pointwise[index] and source is not None and source < index:
            phases.append(phases[source])
        else:
            phases.append(block + bisect_left(turns, index))
    return phases
