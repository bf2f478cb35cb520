"""What studies share.

Rows are runs, in folders of their own, done once, resumed where stopped. Tables come between marks
of a page.
"""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from activsparse.files import atomic_path

__all__ = ["carry_out", "claimed", "fill_in", "run_folder", "start_from"]


def run_folder(out: Path, row: str, seed: int) -> Path:
    """Where a run of a study lies."""
    return out / f"seed{seed}" / row.replace(", ", "_").replace(" ", "_")


@contextmanager
def claimed(folder: Path, wait: bool = False) -> Iterator[bool]:
    """Yield whether this process alone may work on a run folder; with `wait`, once it may."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True


def start_from(base: Path, pruned: float | None) -> Path:
    """The base network, or the smaller one that pruning makes of it."""
    from activsparse.train.prune import prune_run

    if pruned is None:
        return base
    folder = base.with_name(f"base_without_{pruned}")
    if not (folder / "config.yaml").is_file():
        prune_run(base, folder, pruned, round_to=1)
    return folder


def carry_out(folder: Path, recipe: str, changes: list[str]) -> None:
    """Train a recipe with changes, go on with it, or leave it if it is finished."""
    from activsparse.train.recipes.read import load_config
    from activsparse.train.trainer import resume, train

    if (folder / "summary.json").is_file():
        return
    if (folder / "config.yaml").is_file():
        resume(folder)
    else:
        train(load_config(recipe, changes), folder)


def fill_in(page: Path, mark: str, text: str) -> None:
    """Put text between a page's marks `<!-- MARK:begin -->` and `<!-- MARK:end -->`.

    A page without them stays as it is; one that does not exist is written.
    """
    begin, end = f"<!-- {mark}:begin -->\n", f"<!-- {mark}:end -->"
    whole = page.read_text() if page.is_file() else begin + end
    before, found, rest = whole.partition(begin)
    if found:
        with atomic_path(page) as path:
            path.write_text(f"{before}{begin}{text.strip()}\n{end}{rest.partition(end)[2]}")
