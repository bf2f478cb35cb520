"""What each layer costs, and which to leave in float for a bounded loss."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

__all__ = ["LayerCost", "fewest_in_float"]


@dataclass(frozen=True)
class LayerCost:
    """One layer quantised, all others in float.

    Attributes:
        name: of the layer.
        node: its node's name.
        snr_db: of the network's worst output then.
    """

    name: str
    node: str
    snr_db: float


def fewest_in_float(
    costs: Sequence[LayerCost],
    lost: Callable[[Collection[str]], float],
    allowed: float,
) -> tuple[list[LayerCost], float]:
    """The fewest of the worst layers that, left in float, bring the loss down to what is allowed.

    Twice as many are tried each time, then the numbers between by halves.

    Args:
        costs: worst first.
        lost: points lost where the nodes named are in float.
        allowed: points.

    Returns:
        Those layers and the loss with them; all layers, where nothing less suffices.
    """
    measured: dict[int, float] = {}

    def at(count: int) -> float:
        if count not in measured:
            measured[count] = lost([cost.node for cost in costs[:count]])
        return measured[count]

    count = 0
    while at(count) > allowed and count < len(costs):
        count = min(max(1, 2 * count), len(costs))
    too_few = max((n for n in measured if n < count), default=-1)
    while count - too_few > 1:
        middle = (count + too_few) // 2
        if at(middle) > allowed:
            too_few = middle
        else:
            count = middle
    return list(costs[:count]), at(count)
