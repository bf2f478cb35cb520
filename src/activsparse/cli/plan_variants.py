"""What `activsparse plan` plans: a network, as it is, on smaller images, with fewer channels.

Masks are found for each of these variants by itself; `plan_choice` chooses among them.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from activsparse.bench.measured_speedup import size_speedup
from activsparse.cli.mask_options import mask_options
from activsparse.data import build_data
from activsparse.engine.plan_file import is_plan
from activsparse.errors import ActivsparseError
from activsparse.export.onnx import export_onnx
from activsparse.masks import MaskOptions
from activsparse.masks.latency import dense_ms
from activsparse.masks.mask_plan import MaskPlan
from activsparse.masks.time_table import TimeTable
from activsparse.models import build_model
from activsparse.models.pruned import prune_channels
from activsparse.pipeline.plan import plan_speedup
from activsparse.train.plan.plan_network import Found, NetworkPlanner, planning
from activsparse.train.prune import prune_run
from activsparse.train.recipes.config import DataSection
from activsparse.train.run.folder import example_input, load_run
from activsparse.train.sparsify.layers import find_layers
from activsparse.train.tasks.task import check_task, held_out_loss

__all__ = ["Candidate", "Subject", "Variant", "find_plans", "keep_pruned", "subject_of"]

SIZES = (0.93, 0.86, 0.79, 0.71, 0.64, 0.57, 0.5)
"""Smaller inputs that are tried, as shares of the side."""
RATIOS = (0.125, 0.25, 0.375)
"""Shares of channels that are left out."""

Size = tuple[int, int]


class Progress(Protocol):
    """Shows what is measured."""

    title: str

    def advance(self, done: int, total: int, what: str) -> None:
        """Note a measurement."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A network without masks, in evaluation mode, and its images at any size."""

    model: nn.Module
    channels: int
    size: Size
    data: DataSection
    seed: int

    def batches(self, size: Size, images: int) -> list[tuple[Tensor, Tensor]]:
        """Training images without variation: held-out ones choose checkpoints later on."""
        section = self.data.model_copy(update={"image_size": size, "channels": self.channels})
        data = build_data(**section.model_dump(), seed=self.seed)
        count = -(-images // section.batch_size)
        return list(itertools.islice(data.unvaried_dataloader(count), count))


@dataclass(frozen=True, eq=False)
class Variant:
    """A subject at a size, with a share of its channels left out."""

    subject: Subject
    size: Size
    ratio: float = 0.0

    @property
    def example(self) -> Tensor:
        """(1, C, H, W)."""
        return example_input((self.subject.channels, *self.size))

    def __str__(self) -> str:
        pruned = f"-without-{self.ratio:g}" if self.ratio else ""
        return f"{self.size[0]}x{self.size[1]}{pruned}"


@dataclass(frozen=True, eq=False)
class Candidate:
    """A variant with its masks for a target.

    Attributes:
        found: the masks, times as fast and losses in terms of the whole network, dense.
        dense: estimated ms of its layers without masks, by name.
        variant: that the masks are for.
    """

    found: Found
    dense: dict[str, float]
    variant: Variant


def subject_of(args: argparse.Namespace) -> Subject:
    """The network that is meant.

    Raises:
        ActivsparseError: there is no such network, or nothing to measure losses on.
    """
    path = Path(args.model)
    if path.is_dir():
        return _of_run(args)
    if args.train_epochs is not None:
        raise ActivsparseError(
            f"{args.model}: only a run can be trained on, as its recipe says; name a run folder, "
            "or leave out --train-epochs"
        )
    if "channels" in args.allow:
        raise ActivsparseError(
            f"{args.model}: only a run's channels can be pruned; name a run folder, or leave out "
            "--allow channels"
        )
    if path.is_file() and (path.suffix == ".onnx" or is_plan(path)):
        raise ActivsparseError(
            f"{path}: losses are measured with torch; name the run or the network it came from"
        )
    if args.data is None:
        raise ActivsparseError(
            f"{args.model}: losses are measured on labelled images; name them with --data, or "
            "name a run folder, which knows its own"
        )
    return _of_name(args)


def find_plans(
    args: argparse.Namespace,
    subject: Subject,
    targets: Sequence[float],
    table: TimeTable,
    where: str,
    isa: str,
    progress: Progress,
) -> dict[float, list[Candidate]]:
    """The best masks of each variant for each target.

    Variants that lose more without masks than another one with them are left out, unless all are to
    be trained before the best is chosen.

    Raises:
        ActivsparseError: a target out of reach; of several, all of them.
    """
    found: dict[float, list[Candidate]] = {}
    problems: dict[float, ActivsparseError] = {}
    whole, base = Variant(subject, subject.size), 0.0
    with _timing(args, whole, table, isa) as timing:
        for variant in [whole, *_others(args, subject)]:
            faster = 1.0 if variant is whole else timing.faster(variant)
            with _planner(args, variant, whole, table, where, progress) as planner:
                alone = planner.without_masks().loss
                base = alone if variant is whole else base
                for target in targets:
                    others = found.setdefault(target, [])
                    if args.train_epochs is None:
                        if any(alone >= other.found.loss for other in others):
                            continue  # masks will not make up for that
                    elif target <= faster and any(_fits(other, variant) for other in others):
                        continue  # a larger one is fast enough as it is
                    progress.title = f"{target:g} times as fast, {variant}"
                    try:
                        each = _find(planner, target / faster, timing.of_masks(variant), args)
                    except ActivsparseError as error:
                        problems.setdefault(target, error)
                        continue
                    dense = {
                        layer.name: dense_ms(layer.conv, table)
                        for unit in planner.planner.units
                        for layer in unit.layers
                    }
                    others.append(Candidate(_told(each, target, faster, base), dense, variant))
    reached = {target: candidates for target, candidates in found.items() if candidates}
    if not reached or (len(targets) == 1 and problems and targets[0] not in reached):
        raise next(iter(problems.values()))
    return reached


def _fits(other: Candidate, variant: Variant) -> bool:
    """Whether it needs no masks, and is larger with as many channels."""
    whole = not other.found.plan.masked() and other.variant.ratio == variant.ratio
    return whole and other.variant.size > variant.size


def keep_pruned(args: argparse.Namespace, variant: Variant, folder: Path) -> None:
    """Write the pruned run that a plan is for."""
    if folder.exists():
        shutil.rmtree(folder)
    prune_run(args.model, folder, variant.ratio, checkpoint=args.checkpoint, trust=args.trust)


def _find(
    planner: NetworkPlanner,
    target: float,
    measure: Callable[[MaskPlan], float] | None,
    args: argparse.Namespace,
) -> Found:
    if target > 1:
        return planner.find(target, measure, rounds=args.rounds)
    return planner.without_masks()


def _told(found: Found, target: float, faster: float, dense_loss: float) -> Found:
    """The solution in terms of the whole network, dense."""
    speed = found.speedup * faster
    notes = {
        **found.plan.notes,
        "target_speedup": target,
        "speedup": round(speed, 3),
        "dense_loss": round(dense_loss, 6),
    }
    return replace(
        found, plan=replace(found.plan, notes=notes), speedup=speed, dense_loss=dense_loss
    )


def _others(args: argparse.Namespace, subject: Subject) -> list[Variant]:
    """Smaller inputs, fewer channels, and both, as far as they are allowed."""
    (height, width), sizes = subject.size, [subject.size]
    if "input-size" in args.allow:
        smaller = dict.fromkeys((_side(height, s), _side(width, s)) for s in SIZES)
        sizes += [size for size in smaller if size < subject.size]
    subjects = [(subject, 0.0)]
    if "channels" in args.allow:
        example = example_input((subject.channels, *subject.size))
        for ratio in RATIOS:
            pruned = prune_channels(subject.model, example, ratio).eval()
            subjects.append((replace(subject, model=pruned), ratio))
    return [Variant(of_it, size, ratio) for of_it, ratio in subjects for size in sizes][1:]


def _side(side: int, share: float) -> int:
    """A share of a side, in steps of 8, or finer where 8 is more than a step of SIZES."""
    step = next((step for step in (8, 4, 2) if step <= 0.07 * side), 1)
    return max(8, round(side * share / step) * step)


@contextmanager
def _planner(
    args: argparse.Namespace,
    variant: Variant,
    whole: Variant,
    table: TimeTable,
    where: str,
    progress: Progress,
) -> Iterator[NetworkPlanner]:
    out = Path(args.out)
    tail = "" if variant is whole else f"-{variant}"
    with planning(
        variant.subject.model,
        variant.example,
        variant.subject.batches(variant.size, args.images),
        held_out_loss(variant.subject.model, variant.example),
        options=mask_options(args, MaskOptions()),
        losses=out.with_name(f"{out.stem}{tail}.losses.csv"),
        table=table,
        where=where,
        patterns=args.patterns,
        fills=args.fills,
        count=args.masks,
        advance=progress.advance,
    ) as planner:
        yield planner


class _Timing:
    """Measured times of networks in the engine, in files of a folder of its own."""

    def __init__(
        self, args: argparse.Namespace, whole: Variant, table: TimeTable, isa: str, folder: Path
    ) -> None:
        self._args, self._whole, self._table, self._folder = args, whole, table, folder
        self._how: dict[str, Any] = {
            "threads": args.threads,
            "repeat": args.repeat,
            "session": {"isa": isa},
        }
        self._files: dict[str, Path] = {}

    def of_masks(self, variant: Variant) -> Callable[[MaskPlan], float] | None:
        """What times a plan's network against the variant without masks."""
        if self._args.estimate:
            return None

        return lambda plan: plan_speedup(self._dense(variant), plan, **self._how)

    def faster(self, variant: Variant) -> float:
        """How many times as fast as the whole network it is without masks."""
        if self._args.estimate:
            return self._estimated(self._whole) / self._estimated(variant)
        return size_speedup(self._dense(self._whole), self._dense(variant), **self._how)

    def _estimated(self, variant: Variant) -> float:
        layers = find_layers(variant.subject.model, variant.example)
        return sum(dense_ms(layer.shape, self._table) for layer in layers)

    def _dense(self, variant: Variant) -> Path:
        key = str(variant)
        if key not in self._files:
            self._files[key] = self._folder / f"dense-{key}.onnx"
            export_onnx(variant.subject.model, variant.example, self._files[key])
        return self._files[key]


@contextmanager
def _timing(
    args: argparse.Namespace, whole: Variant, table: TimeTable, isa: str
) -> Iterator[_Timing]:
    with tempfile.TemporaryDirectory() as folder:
        yield _Timing(args, whole, table, isa, Path(folder))


def _of_run(args: argparse.Namespace) -> Subject:
    run = load_run(args.model, args.checkpoint, trust=args.trust)
    if run.sparsifier is not None:
        run.sparsifier.detach()
    _, channels, *own = run.example_input.shape
    size = args.image_size or (own[0], own[1])
    section = run.config.data.model_copy(update=_data_changes(args))
    return Subject(run.model, channels, size, section, run.config.seed)


def _of_name(args: argparse.Namespace) -> Subject:
    size = args.image_size or (224, 224)
    section = DataSection(image_size=size, **_data_changes(args))
    data = build_data(**section.model_dump(), seed=0)
    channels = data.shape[0]
    model = build_model(args.model, data.num_classes, args.weights, in_channels=channels)
    check_task(model, data)
    return Subject(model.eval(), channels, size, section, 0)


def _data_changes(args: argparse.Namespace) -> dict[str, Any]:
    given = {"name": args.data, "root": args.data_root}
    return {"batch_size": args.batch_size, **{k: v for k, v in given.items() if v is not None}}
