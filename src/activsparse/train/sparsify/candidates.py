"""Choosing among candidate masks by the loss on the same held-out batches.

The published search compares score maps by the losses of single training batches while weights and
sparsity move, so it mostly compares batches. Here weights stand still, all candidates see the same
images, and half of them drop out in each round while the number of images doubles (successive
halving: Jamieson and Talwalkar, AISTATS 2016), so that every round costs the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from activsparse.distributed import mean_loss
from activsparse.errors import ActivsparseError
from activsparse.masks.maker import CANDIDATES
from activsparse.train.sparsify.norms import batch_statistics
from activsparse.train.sparsify.sparsifier import Sparsifier

__all__ = ["Choice", "halve", "rounds", "search_masks"]

Batches = Sequence[tuple[Tensor, Tensor]]
Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Choice:
    """What a search found.

    Attributes:
        winner: index of the best candidate.
        losses: mean loss of each candidate over the batches it saw.
        batches: how many it saw.
    """

    winner: int
    losses: list[float]
    batches: list[int]


def rounds(candidates: int, batches: int) -> list[tuple[int, int]]:
    """How many candidates see up to how many batches, round by round.

    The last round sees all batches, each earlier one half as many as the next, at least one.
    """
    plan = []
    while candidates > 1:
        plan.append(candidates)
        candidates = (candidates + 1) // 2
    last = len(plan) - 1
    return [(alive, max(1, batches >> (last - at))) for at, alive in enumerate(plan)]


def halve(candidates: int, batches: int, measure: Callable[[int, int], float]) -> Choice:
    """Successive halving.

    Args:
        candidates: how many there are.
        batches: how many batches there are.
        measure: loss of (candidate, batch).
    """
    losses: list[list[float]] = [[] for _ in range(candidates)]
    means = [0.0] * candidates
    alive = list(range(candidates))
    for count, seen in rounds(candidates, batches):
        # Of equal ones the first stays.
        alive = sorted(alive, key=lambda at: (means[at], at))[:count]
        for at in alive:
            losses[at] += [measure(at, batch) for batch in range(len(losses[at]), seen)]
            means[at] = sum(losses[at]) / len(losses[at])
    winner = min(alive, key=lambda at: (means[at], at))
    return Choice(winner, means, [len(of_one) for of_one in losses])


@torch.no_grad()
def search_masks(
    sparsifier: Sparsifier, batches: Batches, loss: Loss, candidates: int = 16
) -> Choice:
    """Compare candidate masks on `batches`, make the best ones final.

    With pattern `random` a candidate is a score map, with the regular patterns a choice of phases
    (where gaps and holes lie), block by block. Candidate 0 is what the Sparsifier would take by
    itself, so on these batches the search never makes matters worse. Under data parallelism each
    process brings batches of its own and the mean decides.

    Args:
        sparsifier: of the network, in any state; its masks are final afterwards.
        batches: pairs of images (N, C, H, W) and labels (N,) that are not trained on.
        loss: mean loss of (logits, labels).
        candidates: how many to compare.

    Raises:
        ActivsparseError: no batches, or fewer than one candidate.
    """
    if candidates < 1 or not batches:
        raise ActivsparseError(
            f"{candidates} candidates and {len(batches)} batches; a search needs one of each"
        )
    steps = [sparsifier.source_step, *(CANDIDATES + at for at in range(1, candidates))]
    present = -1

    def measure(candidate: int, batch: int) -> float:
        nonlocal present
        if candidate != present:
            sparsifier.settle(steps[candidate])
            present = candidate
        images, labels = batches[batch]
        return mean_loss(loss(sparsifier.model(images), labels), device=images.device)

    with batch_statistics(sparsifier.model):
        choice = halve(candidates, len(batches), measure)
        sparsifier.settle(steps[choice.winner])
    return choice
