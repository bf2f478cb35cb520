"""A recipe's target speed-up, turned into sparsities of its layers."""

from __future__ import annotations

import logging
from pathlib import Path

from torch.nn.functional import cross_entropy

from activsparse.errors import ActivsparseError
from activsparse.train.config import Config
from activsparse.train.distributed import launched_processes
from activsparse.train.layers import find_layers
from activsparse.train.run import held_out_batches, load_run, make_sparsifier
from activsparse.train.sensitivity import measure_sensitivity, write_sensitivity
from activsparse.train.speedup import estimated_speedup, sparsities_for_speedup

__all__ = ["check_search", "choose_per_layer"]

_log = logging.getLogger(__name__)
_OPTIONS = (
    "pattern", "block", "fill", "site", "phases", "skip", "skip_types", "skip_kernel_sizes",
    "skip_stem", "skip_shortcuts",
)  # fmt: skip


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
    if search.target_speedup is None:
        return
    if sparsity.per_layer:
        raise ActivsparseError(
            "search.target_speedup chooses sparsity.per_layer; leave one of them out"
        )
    if config.init_from is None and config.dense is None:
        raise ActivsparseError(
            "search.target_speedup measures a trained network; add a dense phase, or init_from"
        )
    if config.init_from is not None and not Path(config.init_from).is_dir():
        raise ActivsparseError(
            f"search.target_speedup needs a run to start from, not a file ({config.init_from}); "
            "set init_from to a run folder"
        )
    if launched_processes() != (1, 1):
        raise ActivsparseError(
            "search.target_speedup is chosen by one process; run activsparse sensitivity RUN "
            "--target-speedup X first, and put what it prints into the recipe"
        )


def choose_per_layer(config: Config, folder: Path, start: Path) -> Config:
    """The recipe with `sparsity.per_layer` in place of `search.target_speedup`.

    Writes sensitivity.csv into `folder`.

    Args:
        config: any recipe; one without a target is returned as it is.
        folder: of the run.
        start: run folder of the network the phase with masks starts from.

    Raises:
        ActivsparseError: a target that cannot be reached; see also `measure_sensitivity`.
    """
    target, sparsity = config.search.target_speedup, config.sparsity
    if target is None or sparsity is None:
        return config
    run = load_run(start)
    if run.sparsifier is not None:
        run.sparsifier.detach()
    layers = find_layers(run.model, run.example_input)
    options = {key: value for key, value in sparsity.model_dump().items() if key in _OPTIONS}
    images = config.search.batches * max(config.data.batch_size, 128)
    found = measure_sensitivity(
        run.model, run.example_input, held_out_batches(config, images), cross_entropy, **options
    )
    write_sensitivity(found, folder / "sensitivity.csv")
    chosen = sparsities_for_speedup(layers, found, target, sparsity.pattern)
    mean = round(sum(chosen.values()) / len(chosen), 4)
    config = config.model_copy(
        update={
            "sparsity": sparsity.model_copy(update={"per_layer": chosen, "sparsity": mean}),
            "search": config.search.model_copy(update={"target_speedup": None}),
        }
    )
    sparsifier = make_sparsifier(run.model, run.example_input, config, total_steps=1)
    assert sparsifier is not None
    sparsifier.freeze()
    reached = estimated_speedup(layers, sparsifier.masks())
    _log.info(
        "target speed-up %.2f: masks of mean sparsity %.3f, estimated %.2f",
        target,
        sparsifier.achieved_sparsity,
        reached,
    )
    return config
