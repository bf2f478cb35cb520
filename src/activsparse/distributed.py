"""What the processes of a data-parallel run must agree about."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from activsparse.errors import ActivsparseError

__all__ = [
    "agree",
    "any_rank",
    "barrier",
    "from_all",
    "is_distributed",
    "launched_processes",
    "mean_loss",
    "mean_over_ranks",
    "rank",
    "world_size",
]


def is_distributed() -> bool:
    """Whether a process group of torch.distributed is open."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def rank() -> int:
    """Number of this process; before the group is open, the one torchrun gave it."""
    return torch.distributed.get_rank() if is_distributed() else _environment("RANK", 0)


def world_size() -> int:
    """Number of processes in the open group, else 1."""
    return torch.distributed.get_world_size() if is_distributed() else 1


def launched_processes() -> tuple[int, int]:
    """(processes on this machine, machines) as torchrun launched them; (1, 1) without it."""
    if not torch.distributed.is_torchelastic_launched():
        return 1, 1
    local = _environment("LOCAL_WORLD_SIZE", 1)
    return local, _environment("WORLD_SIZE", local) // local


def any_rank(flag: bool, device: torch.device | None = None) -> bool:
    """Whether `flag` is set in any process; all must ask together.

    Args:
        flag: of this process.
        device: one that the process group's backend can send from.
    """
    if world_size() == 1:
        return flag
    count = torch.tensor(float(flag), device=device)
    torch.distributed.all_reduce(count)
    return bool(count > 0)


def barrier() -> None:
    """Wait for all processes."""
    if world_size() > 1:
        torch.distributed.barrier()


def agree(
    loss: Tensor | float | None, stop: bool, *same: int, device: torch.device | None = None
) -> tuple[float | None, bool]:
    """Mean of `loss` over all processes, and whether any sets `stop`, in one collective operation.

    Args:
        loss: scalar, of any shape with one element; None in a process that has none.
        stop: of this process.
        same: whole numbers that must be equal everywhere, such as seed and step.
        device: one that the process group's backend can send from.

    Returns:
        The same in each process, bit for bit: the mean, not a number if some have no loss and None
        if this one process has none; whether to stop.

    Raises:
        ActivsparseError: the loss is no number, or several; the numbers differ, so the masks would.
    """
    try:
        value = torch.as_tensor(float("nan") if loss is None else loss).detach().double()
    except (TypeError, ValueError, RuntimeError) as error:
        kind = type(loss).__name__
        raise ActivsparseError(f"loss: a {kind} is no scalar; pass the mean loss") from error
    if value.numel() != 1:
        raise ActivsparseError(f"a loss of shape {tuple(value.shape)} is no scalar; pass its mean")
    value = value.reshape(())
    if world_size() == 1:
        return None if loss is None else float(value), stop
    # Whole numbers above 2^53 would be rounded alike on every rank.
    numbers = torch.tensor([float(stop), *map(float, same)], dtype=torch.double, device=device)
    own = torch.cat([value.to(numbers.device)[None], numbers])
    gathered = [torch.empty_like(own) for _ in range(world_size())]
    torch.distributed.all_gather(gathered, own)
    table = torch.stack(gathered).cpu()
    if not (table[:, 2:] == table[0, 2:]).all():
        raise ActivsparseError(
            f"the processes differ in seed or step ({table[:, 2:].long().tolist()}); give each "
            "Sparsifier the same seed, load the same state, and step it equally often"
        )
    return float(table[:, 0].sum()) / world_size(), bool(table[:, 1].any())


def mean_loss(loss: Tensor | float, *same: int, device: torch.device | None = None) -> float:
    """Mean of `loss` over all processes; see `agree`."""
    mean, _ = agree(loss, False, *same, device=device)
    assert mean is not None
    return mean


def from_all(value: Any) -> list[Any]:
    """The `value` of each process, in their order, in all of them; anything that can be pickled."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    torch.distributed.all_gather_object(values, value)
    return values


def mean_over_ranks(values: Tensor) -> Tensor:
    """Mean of a tensor over all processes; it lies where the group's backend can send from."""
    if world_size() == 1:
        return values
    total = values.clone()
    torch.distributed.all_reduce(total)
    return total / world_size()


def _environment(name: str, default: int) -> int:
    return int(os.environ.get(name, default))
