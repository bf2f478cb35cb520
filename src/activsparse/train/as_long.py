"""What a run with masks is to be compared with: a dense network trained as long."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from activsparse.errors import ActivsparseError
from activsparse.train.recipes.config import Config
from activsparse.train.recipes.read import differences, read_config

__all__ = ["dense_as_long", "epochs_in_all"]

# Keys in which a dense run beside this one may differ: masks, and what chose them.
_OF_MASKS = ("sparsity", "search", "seed")
# What must be alike in a run that the recipe names.
_OF_TASK = ("model.", "data.")


def epochs_in_all(folder: Path, summary: Mapping[str, Any] | None = None) -> int | None:
    """Epochs of a finished run and of the runs it started from; None where that is not known.

    Args:
        folder: of the run.
        summary: what its summary.json will hold, where it is not written yet.
    """
    total, seen = 0, set[Path]()
    place: Path | None = folder
    while place is not None:
        content = summary if place == folder and summary is not None else _summary(place)
        config = _config(place)
        if content is None or config is None or place.resolve() in seen:
            return None
        seen.add(place.resolve())
        total += int(content["epochs"])
        if config.init_from is not None:
            place = Path(config.init_from)
            if place.is_file():
                return total  # weights that were trained elsewhere
        else:
            place = place / "dense" if config.dense is not None else None
    return total


def dense_as_long(
    folder: Path, config: Config, summary: Mapping[str, Any]
) -> dict[str, Any] | None:
    """The dense run that was trained at least as long as this one, and the nearest to it.

    That may be the run the recipe starts from, its teacher, or one beside it in the same folder
    that the same recipe trained without masks (`--set sparsity=null`).

    Args:
        folder: of the run with masks.
        config: its recipe.
        summary: what its summary.json will hold.

    Returns:
        `run` (folder), `epochs` in all, and its figures of the test; None where there is none.
    """
    own = epochs_in_all(folder, summary)
    if own is None:
        return None
    found: list[dict[str, Any]] = []
    for place in _candidates(folder, config):
        content, epochs = _summary(place), epochs_in_all(place)
        if content is not None and not content["layers"] and epochs is not None and epochs >= own:
            entry: dict[str, Any] = {"run": str(place), "epochs": epochs}
            entry |= {key: content[key] for key in ("top1", "map50") if key in content}
            found.append(entry)
    return min(found, key=lambda each: int(each["epochs"]), default=None)


def _candidates(folder: Path, config: Config) -> Iterator[Path]:
    """Folders of runs whose network could be the one without masks."""
    teacher = None if config.distillation is None else config.distillation.teacher
    named = [folder / "dense", *(Path(name) for name in (config.init_from, teacher) if name)]
    for place in named:
        other = _config(place)
        if other is not None and not any(
            odd.startswith(_OF_TASK) for odd in differences(other, config)
        ):
            yield place
    beside = folder.resolve().parent
    for place in sorted(beside.iterdir()) if beside.is_dir() else ():
        if place != folder.resolve() and (other := _config(place)) is not None:
            odd = [each for each in differences(other, config) if not each.startswith(_OF_MASKS)]
            if other.sparsity is None and not odd:
                yield folder.parent / place.name


def _config(folder: Path) -> Config | None:
    """The recipe of a run folder, of which no code is called; None where there is none."""
    try:
        return read_config(folder / "config.yaml")
    except (ActivsparseError, OSError):
        return None


def _summary(folder: Path) -> dict[str, Any] | None:
    """What a finished run came to; None where there is none, or a damaged one."""
    try:
        content = json.loads((folder / "summary.json").read_bytes())
        whole = isinstance(content, dict) and {"epochs", "layers"} <= {*content}
        return content if whole and isinstance(content["epochs"], int) else None
    except (OSError, ValueError, RecursionError):
        return None
