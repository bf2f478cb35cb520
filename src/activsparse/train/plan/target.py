"""A recipe's overall target (speed-up, or sparsity to spread), turned into a mask plan."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from activsparse.data import build_data
from activsparse.distributed import launched_processes
from activsparse.errors import ActivsparseError
from activsparse.masks.mask_plan_file import write_mask_plan
from activsparse.masks.plan_options import DEFAULT_PATTERNS
from activsparse.train.plan.plan_network import planning
from activsparse.train.recipes.config import Config, SparsitySection
from activsparse.train.recipes.read import with_plan
from activsparse.train.run.folder import load_run
from activsparse.train.tasks.task import held_out_loss

__all__ = ["as_chosen", "asks_for_plan", "check_search", "make_plan"]

_log = logging.getLogger(__name__)

# Masks that are measured in each layer, of each pattern: for a share of multiply-adds the regular
# lattices, for a time those that save some.
_SPREAD_MASKS = 5
_SPEED_MASKS = 4
_ROUNDS = 2
"""How often losses are measured again around the solution."""


def check_search(config: Config) -> None:
    """Find contradictions in a recipe's `search` before anything is trained.

    Raises:
        ActivsparseError: there is one.
    """
    search, sparsity = config.search, config.sparsity
    if sparsity is None:
        return
    if (search.importance is None) != (sparsity.importance_weight == 0):
        raise ActivsparseError(
            f"search.importance {search.importance} and sparsity.importance_weight "
            f"{sparsity.importance_weight:g}: importance needs both; set the other one as well"
        )
    if not asks_for_plan(config):
        return
    if search.spread and search.target_speedup is not None:
        raise ActivsparseError(
            "search.spread and search.target_speedup both choose sparsity.plan; leave one out"
        )
    key = "search.spread" if search.spread else "search.target_speedup"
    for given in ("per_layer", "plan", "importance_weight"):
        if getattr(sparsity, given):
            raise ActivsparseError(
                f"{key} chooses the masks, as sparsity.{given} does; leave one of them out"
            )
    if config.init_from is None and config.dense is None:
        raise ActivsparseError(f"{key} measures a trained network; add a dense phase, or init_from")
    if config.init_from is not None and not Path(config.init_from).is_dir():
        raise ActivsparseError(
            f"{key} needs a run to start from, not a file ({config.init_from}); "
            "set init_from to a run folder"
        )
    if launched_processes() != (1, 1):
        raise ActivsparseError(
            f"{key} is carried out by one process; choose first with activsparse plan, and give "
            "the recipe what it writes as sparsity.plan"
        )


def asks_for_plan(config: Config) -> bool:
    """Whether masks are to be chosen before the phase with masks begins."""
    search = config.search
    return config.sparsity is not None and (search.spread or search.target_speedup is not None)


def make_plan(config: Config, folder: Path, start: Path, trust: bool = False) -> Config:
    """The recipe with `sparsity.plan` in place of its overall target.

    Writes plan.yaml into `folder`, and losses.csv, by which a stopped choice goes on.

    Args:
        config: any recipe; one without a target is returned as it is.
        folder: of the run.
        start: run folder of the network the phase with masks starts from.
        trust: whether that one may call code that the recipe does not call.

    Raises:
        ActivsparseError: a target that cannot be reached; see also `planning`.
    """
    search, sparsity = config.search, config.sparsity
    if sparsity is None or not asks_for_plan(config):
        return config
    run = load_run(start, trust=trust or config)
    if run.sparsifier is not None:
        run.sparsifier.detach()
    if search.target_speedup is None and not sparsity.sparsity > 0:
        raise ActivsparseError("search.spread: sparsity.sparsity is 0; choose for example 0.3")
    # Held-out images choose the best checkpoint later on.
    data = build_data(**config.data.model_dump(), seed=config.seed)
    with planning(
        run.model,
        run.example_input,
        list(data.unvaried_dataloader(search.batches)),
        held_out_loss(run.model, run.example_input),
        options=sparsity,
        patterns=DEFAULT_PATTERNS if sparsity.pattern == "auto" else (sparsity.pattern,),
        fills=(),
        count=_SPREAD_MASKS if search.spread else _SPEED_MASKS,
        seed=config.seed,
        by="macs" if search.spread else "ms",
        losses=folder / "losses.csv",
    ) as planner:
        target = search.target_speedup or 1 / (1 - sparsity.sparsity)
        found = planner.find(target, rounds=_ROUNDS)
    write_mask_plan(found.plan, folder / "plan.yaml")
    _log.info(
        "mask plan: sparsity %.3f, %s an estimated 1/%.2f, loss %.4f -> %.4f",
        found.plan.sparsity,
        "multiply-adds" if search.spread else "time of convolutions",
        found.speedup,
        found.dense_loss,
        found.loss,
    )
    chosen = with_plan(config, found.plan).sparsity
    assert chosen is not None
    # What was asked for is what reports call requested.
    return _settled(config, chosen.but(sparsity=sparsity.sparsity) if search.spread else chosen)


def as_chosen(config: Config, recorded: Config) -> Config:
    """The recipe with the choice that a run of it made, if `recorded` is such a run's."""
    sparsity, chosen = config.sparsity, recorded.sparsity
    if sparsity is None or chosen is None:
        return config
    if not asks_for_plan(config) or asks_for_plan(recorded):
        return config
    changes: dict[str, Any] = {"plan": chosen.plan}
    if config.search.target_speedup is not None:
        changes["sparsity"] = chosen.sparsity
    return _settled(config, sparsity.but(**changes))


def _settled(config: Config, sparsity: SparsitySection) -> Config:
    """The recipe with chosen sparsities, and no target any more."""
    search = config.search.model_copy(update={"target_speedup": None, "spread": False})
    return config.model_copy(update={"sparsity": sparsity, "search": search})
