"""Now `activsparse.distributed`."""

from activsparse.distributed import (
    agree,
    any_rank,
    barrier,
    from_all,
    is_distributed,
    launched_processes,
    mean_loss,
    mean_over_ranks,
    rank,
    world_size,
)

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
