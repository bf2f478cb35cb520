"""Which variant a plan is for: what loses least as it is, or what does once all are trained on."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from activsparse.cli.plan_variants import Candidate, Subject, keep_pruned
from activsparse.pipeline.finalists import Finalist, trained_loss
from activsparse.train.run.folder import read_run_config

__all__ = ["Choice", "choose", "least_loss"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Choice:
    """A candidate, and its loss on held-out images once trained on; None where none was."""

    candidate: Candidate
    trained_loss: float | None = None


def least_loss(candidates: Sequence[Candidate]) -> Candidate:
    """What loses least before any training; of equals the first."""
    return min(candidates, key=lambda candidate: candidate.found.loss)


def choose(
    args: argparse.Namespace,
    subject: Subject,
    found: Mapping[float, Sequence[Candidate]],
    console: Console | None,
) -> dict[float, list[Choice]]:
    """The candidates for each target, the best one first.

    Raises:
        ActivsparseError: see `activsparse.train.trainer.train`.
        Interrupted: while training; the same command goes on.
    """
    if args.train_epochs is None:
        return {target: [Choice(least_loss(each))] for target, each in found.items()}
    folder = trained_folder(args)
    changes = {"image_size": subject.size, "name": subject.data.name, "root": subject.data.root}
    recipe = read_run_config(Path(args.model), args.trust)
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update=changes)})
    chosen: dict[float, list[Choice]] = {}
    total, done = sum(map(len, found.values())), 0
    for target, candidates in found.items():
        tried = []
        for candidate in candidates:
            done += 1
            _log.info(
                "training %d of %d: %g times as fast, %s", done, total, target, candidate.variant
            )
            start = _start(args, candidate, folder)
            loss = trained_loss(
                Finalist(candidate.found.plan, start),
                recipe,
                args.train_epochs,
                folder,
                console=console,
                trust=args.trust,
            )
            tried.append(Choice(_noted(candidate, loss, args.train_epochs), loss))
        chosen[target] = sorted(tried, key=lambda each: each.trained_loss or 0.0)
    return chosen


def trained_folder(args: argparse.Namespace) -> Path:
    """Where candidates are trained: kept, so that a stopped command goes on where it was."""
    out = Path(args.out)
    return out.with_name(f"{out.stem}-trained")


def _start(args: argparse.Namespace, candidate: Candidate, folder: Path) -> Path:
    """The run that a candidate goes on from."""
    ratio = candidate.variant.ratio
    if not ratio:
        return Path(args.model)
    pruned = folder / f"without-{ratio:g}"
    if not (pruned / "config.yaml").is_file():
        keep_pruned(args, candidate.variant, pruned)
    return pruned


def _noted(candidate: Candidate, loss: float, epochs: int) -> Candidate:
    plan = candidate.found.plan
    notes = {**plan.notes, "trained_loss": round(loss, 6), "train_epochs": epochs}
    return replace(candidate, found=replace(candidate.found, plan=replace(plan, notes=notes)))
