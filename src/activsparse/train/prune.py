"""Taking channels out of a trained run; masks stay."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from activsparse.errors import ActivsparseError
from activsparse.masks.stored import MASK, SOURCE, STATE
from activsparse.models.pruned import PRUNED, channels_of, prune_channels
from activsparse.train.recipes.config import Config
from activsparse.train.recipes.read import read_config, with_plan
from activsparse.train.run.folder import (
    Run,
    load_run,
    make_sparsifier,
    recipe_plan,
    write_network,
)
from activsparse.train.run.trust import check_trust
from activsparse.train.sparsify.layers import find_layers

__all__ = ["follow_pruned", "prune_run", "trained_run"]


def prune_run(
    run_dir: str | Path,
    out: str | Path,
    ratio: float,
    *,
    round_to: int = 8,
    skip: Iterable[str] = (),
    checkpoint: str = "best",
    trust: bool = False,
) -> Run:
    """Prune the channels of a run's network and write a run folder to go on from (`init_from`).

    Masks of a sparse run act on positions, not on channels: they are the same afterwards.

    Args:
        run_dir: a run folder.
        out: the new one; must not hold a run.
        ratio: see `prune_channels`.
        round_to: see `prune_channels`.
        skip: see `prune_channels`.
        checkpoint: `best` or `last`.
        trust: see `load_run`.

    Raises:
        ActivsparseError: no run, a folder in use, or see `prune_channels`.
    """
    folder = Path(out)
    if (folder / "config.yaml").exists():
        raise ActivsparseError(f"{folder}: holds a run already; name another one")
    run = load_run(run_dir, checkpoint, trust=trust)
    masks = {
        key: value
        for key, value in run.model.state_dict().items()
        if key.endswith((MASK, SOURCE)) or STATE in key.split(".")
    }
    if run.sparsifier is not None:
        run.sparsifier.detach()
    model = prune_channels(run.model, run.example_input, ratio, round_to=round_to, skip=skip)
    section = run.config.model
    # Pruned once more, it is still its original with other numbers of channels.
    base, options = section.name, section.options
    if base == PRUNED:
        base, options = options["base"], options.get("options") or {}
    described = {"base": base, "options": options, "channels": channels_of(model)}
    config = run.config.model_copy(
        update={
            "model": section.model_copy(
                update={"name": PRUNED, "weights": None, "options": described}
            ),
            "dense": None,
            "init_from": str(run_dir),
        }
    )
    if config.sparsity is not None and config.sparsity.plan is not None:
        layers = find_layers(model, run.example_input)
        plan = recipe_plan(config.sparsity.plan).of_network({x.name: x.shape for x in layers})
        config = with_plan(config, plan)
    sparsifier = make_sparsifier(model, run.example_input, config, total_steps=1)
    if sparsifier is not None:
        model.load_state_dict({**model.state_dict(), **masks})
    write_network(folder, model, config, run.example_input.shape[1:], run.num_classes)
    return load_run(folder, trust=trust or config)


def follow_pruned(config: Config, trust: bool = False) -> Config:
    """The recipe with the network of the run it starts from, where that one was pruned.

    Raises:
        ActivsparseError: that network calls code which is neither trusted nor the recipe's own.
    """
    start = None if config.init_from is None else Path(config.init_from) / "config.yaml"
    if start is None or not start.is_file() or config.model.name == PRUNED:
        return config
    found = read_config(start)
    if found.model.name != PRUNED:
        return config
    check_trust(found, str(start), trust or config)
    return config.model_copy(update={"model": found.model})


def trained_run(run_dir: str | Path) -> Path:
    """The run itself; of one that was pruned and not trained since, the run it was pruned from."""
    folder = Path(run_dir)
    while (folder / "config.yaml").is_file() and not (folder / "last.ckpt").is_file():
        origin = read_config(folder / "config.yaml").init_from
        if origin is None:
            break
        folder = Path(origin)
    return folder
