"""A recipe's overall target (speed-up, or sparsity to spread), turned into sparsities of layers."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import torch

from activsparse.data import build_data
from activsparse.distributed import launched_processes
from activsparse.errors import ActivsparseError
from activsparse.files import atomic_path
from activsparse.train.plan.sensitivity import SPARSITIES, measure_sensitivity, write_sensitivity
from activsparse.train.plan.speedup import estimated_speedup, sparsities_for_speedup
from activsparse.train.plan.spread import SPREAD_SPARSITIES, spread_sparsity
from activsparse.train.recipes.config import Config, SparsitySection
from activsparse.train.run.folder import load_run, make_sparsifier
from activsparse.train.sparsify.layers import find_layers
from activsparse.train.tasks.task import held_out_loss

__all__ = ["as_chosen", "check_search", "choose_per_layer", "chooses_per_layer"]

_log = logging.getLogger(__name__)


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
    if not chooses_per_layer(config):
        return
    if search.spread and search.target_speedup is not None:
        raise ActivsparseError(
            "search.spread and search.target_speedup both choose sparsity.per_layer; leave one out"
        )
    key = "search.spread" if search.spread else "search.target_speedup"
    if sparsity.per_layer:
        raise ActivsparseError(f"{key} chooses sparsity.per_layer; leave one of them out")
    if config.init_from is None and config.dense is None:
        raise ActivsparseError(f"{key} measures a trained network; add a dense phase, or init_from")
    if config.init_from is not None and not Path(config.init_from).is_dir():
        raise ActivsparseError(
            f"{key} needs a run to start from, not a file ({config.init_from}); "
            "set init_from to a run folder"
        )
    if launched_processes() != (1, 1):
        raise ActivsparseError(
            f"{key} is carried out by one process; choose first, as activsparse sensitivity does, "
            "and put what it prints into the recipe"
        )


def chooses_per_layer(config: Config) -> bool:
    """Whether sparsities of layers are to be chosen before the phase with masks begins."""
    search = config.search
    return config.sparsity is not None and (search.spread or search.target_speedup is not None)


def choose_per_layer(config: Config, folder: Path, start: Path, trust: bool = False) -> Config:
    """The recipe with `sparsity.per_layer` in place of its overall target.

    Writes sensitivity.csv into `folder`.

    Args:
        config: any recipe; one without a target is returned as it is.
        folder: of the run.
        start: run folder of the network the phase with masks starts from.
        trust: whether that one may call code that the recipe does not call.

    Raises:
        ActivsparseError: a target that cannot be reached; see also `measure_sensitivity`.
    """
    search, sparsity = config.search, config.sparsity
    if sparsity is None or not chooses_per_layer(config):
        return config
    run = load_run(start, trust=trust or config)
    if run.sparsifier is not None:
        run.sparsifier.detach()
    layers = find_layers(run.model, run.example_input)
    # Held-out images choose the best checkpoint later on.
    data = build_data(**config.data.model_dump(), seed=config.seed)
    found = measure_sensitivity(
        run.model.to(memory_format=torch.channels_last),  # twice as fast on CPUs
        run.example_input,
        list(data.unvaried_dataloader(search.batches)),
        held_out_loss(run.model, run.example_input),
        SPREAD_SPARSITIES if search.spread else SPARSITIES,
        options=sparsity,
    )
    with atomic_path(folder / "sensitivity.csv") as path:
        write_sensitivity(found, path)
    if search.target_speedup is None:
        chosen = spread_sparsity(layers, found, sparsity.sparsity)
    else:
        chosen = sparsities_for_speedup(layers, found, search.target_speedup, sparsity.pattern)
        mean = round(sum(chosen.values()) / len(chosen), 4)
        sparsity = sparsity.but(sparsity=mean)
    config = _settled(config, sparsity.but(per_layer=chosen))
    sparsifier = make_sparsifier(run.model, run.example_input, config, total_steps=1)
    assert sparsifier is not None
    sparsifier.freeze()
    _log.info(
        "chosen by layer: masks of mean sparsity %.3f, %.1f %% of all multiply-adds, convolutions "
        "an estimated %.2f times as fast",
        sparsifier.achieved_sparsity,
        100 * sparsifier.kept_macs,
        estimated_speedup(layers, sparsifier.masks()),
    )
    return config


def as_chosen(config: Config, recorded: Config) -> Config:
    """The recipe with the choice that a run of it made, if `recorded` is such a run's."""
    sparsity, chosen = config.sparsity, recorded.sparsity
    if sparsity is None or chosen is None:
        return config
    if not chooses_per_layer(config) or chooses_per_layer(recorded):
        return config
    changes: dict[str, Any] = {"per_layer": chosen.per_layer}
    if config.search.target_speedup is not None:
        changes["sparsity"] = chosen.sparsity
    return _settled(config, sparsity.but(**changes))


def _settled(config: Config, sparsity: SparsitySection) -> Config:
    """The recipe with chosen sparsities, and no target any more."""
    search = config.search.model_copy(update={"target_speedup": None, "spread": False})
    return config.model_copy(update={"sparsity": sparsity, "search": search})
