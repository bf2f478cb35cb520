"""`activsparse plan`: the masks of a network for a speed-up, at the least measured loss."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from activsparse.cli.console import plain_console, wide_console
from activsparse.cli.engine_options import add_isa_option, add_threads_option
from activsparse.cli.mask_options import add_mask_options, mask_options
from activsparse.cli.numbers import image_size, natural, number, positive
from activsparse.cli.run_folder import add_checkpoint, add_trust

if TYPE_CHECKING:
    from rich.console import Console
    from torch import Tensor, nn

    from activsparse.masks.mask_plan import MaskPlan
    from activsparse.masks.time_table import TimeTable
    from activsparse.train.plan.plan_network import Found
    from activsparse.train.recipes.config import DataSection

__all__ = ["FRONTIER", "add_parser", "run"]

FRONTIER = (1.1, 1.2, 1.35, 1.5, 1.75, 2.0, 2.5, 3.0)
SIZES = (0.93, 0.86, 0.79, 0.71, 0.64)
"""Smaller inputs that are tried, as shares of the side."""


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the sub-command."""
    from activsparse.masks import MaskOptions

    parser = subparsers.add_parser(
        "plan",
        help="choose the masks of a network for a speed-up, at the least measured loss",
        description="Choose the mask of every layer so that the whole network becomes as fast as "
        "asked on this machine and its loss grows least. Losses are measured on training images "
        "without variation, layer by layer, then again around the solution; the network's time in "
        "this engine. Writes a mask plan for `activsparse train --plan` and `mask --plan`, and a "
        "picture beside it. What was measured is kept beside the output: a stopped command goes "
        "on where it was. `activsparse calibrate` makes its estimates better.",
    )
    parser.add_argument(
        "model",
        metavar="MODEL_OR_RUN",
        help="folder written by activsparse train, or a network: a torchvision name, timm:NAME, "
        "package.module:factory",
    )
    parser.add_argument(
        "--weights", metavar="FILE|default", help="of a network: a file, or the published ones"
    )
    parser.add_argument(
        "--data", metavar="NAME", help="images that losses are measured on (default: a run's own)"
    )
    parser.add_argument("--data-root", metavar="DIR", help="folder of the data")
    parser.add_argument(
        "--image-size", type=image_size, metavar="HxW", help="of the network's input"
    )
    parser.add_argument(
        "--images", type=positive, default=256, metavar="N", help="images (default: 256)"
    )
    parser.add_argument("--batch-size", type=positive, default=64, metavar="N", help="default: 64")
    target = parser.add_mutually_exclusive_group(required=True)
    target.add_argument(
        "--target-speedup",
        type=number(1, 1e6, "speed-up above 1"),
        metavar="X",
        help="times as fast as the dense network, for example 1.5",
    )
    target.add_argument(
        "--frontier",
        action="store_true",
        help="speed-ups from 1.1 to 3 in one go, one plan each: OUT with the speed-up in its name",
    )
    parser.add_argument("--out", required=True, metavar="FILE.yaml", help="mask plan to write")
    parser.add_argument(
        "--plot", metavar="FILE.png", help="picture to write (default: OUT with .png)"
    )
    options = parser.add_argument_group("options that layers choose from")
    options.add_argument(
        "--patterns",
        choices=("tiles", "lattice", "random"),
        nargs="+",
        default=["tiles", "lattice"],
        help="default: tiles lattice (random blocks save what a lattice saves, and lose more)",
    )
    options.add_argument(
        "--fills",
        choices=("zero", "nearest"),
        nargs="+",
        default=["zero", "nearest"],
        help="default: zero nearest",
    )
    options.add_argument(
        "--masks", type=positive, default=4, metavar="N", help="of each pattern (default: 4)"
    )
    options.add_argument(
        "--allow",
        type=_allowed,
        default=(),
        metavar="WHAT",
        help="what else may change: input-size (smaller images, with or without masks)",
    )
    parser.add_argument(
        "--rounds",
        type=natural,
        default=2,
        metavar="N",
        help="how often losses are measured again around the solution (default: 2)",
    )
    parser.add_argument(
        "--estimate",
        action="store_true",
        help="go by estimated times of the convolutions alone, time nothing",
    )
    parser.add_argument(
        "--repeat", type=positive, default=60, metavar="N", help="timed runs (default: 60)"
    )
    which = ("skip", "only", "skip_stem", "skip_shortcuts", "skip_head", "phases")
    add_mask_options(parser, MaskOptions(), which=which)
    add_checkpoint(parser)
    add_isa_option(parser)
    add_threads_option(parser, 1, "default: 1")
    add_trust(parser)


def _allowed(text: str) -> tuple[str, ...]:
    words = tuple(text.split(","))
    for word in words:
        if word == "channels":
            raise argparse.ArgumentTypeError(
                "channels are pruned before: activsparse prune, then plan the pruned run"
            )
        if word != "input-size":
            raise argparse.ArgumentTypeError(f"{word!r} is unknown; write input-size")
    return words


@dataclass(frozen=True)
class _Subject:
    """A network without masks, and its images at any size."""

    model: nn.Module
    channels: int
    size: tuple[int, int]
    data: DataSection
    seed: int

    def example(self, size: tuple[int, int]) -> Tensor:
        from activsparse.train.run.folder import example_input

        return example_input((self.channels, *size))

    def batches(self, size: tuple[int, int], images: int) -> list[tuple[Tensor, Tensor]]:
        """Training images without variation: held-out ones choose checkpoints later on."""
        import itertools

        from activsparse.data import build_data

        section = self.data.model_copy(update={"image_size": size, "channels": self.channels})
        data = build_data(**section.model_dump(), seed=self.seed)
        count = -(-images // section.batch_size)
        return list(itertools.islice(data.unvaried_dataloader(count), count))


def run(args: argparse.Namespace) -> int:
    """Plan, and write what was chosen."""
    import activsparse.train.plan.plan_network  # noqa: F401  (what is missing shows first)
    from activsparse.engine.calibrate import this_table
    from activsparse.engine.compile import NATIVE, target_isa
    from activsparse.errors import ActivsparseError
    from activsparse.masks.mask_plan_file import write_mask_plan
    from activsparse.overwrite import refuse_overwrite
    from activsparse.report.plan import draw_frontier, draw_plan
    from activsparse.report.sensitivity import picture_kind

    out = Path(args.out)
    plot = Path(args.plot) if args.plot else out.with_suffix(".png")
    kind = picture_kind(plot)
    refuse_overwrite([args.model, *([args.weights] if args.weights else [])], [out, plot])
    if not out.parent.is_dir():
        raise ActivsparseError(f"{out}: its folder does not exist; create it first")
    subject = _subject(args)
    isa = args.isa or target_isa(NATIVE)
    table, where = this_table(isa, args.threads)
    console = wide_console()
    console.print(where)
    targets = FRONTIER if args.frontier else (args.target_speedup,)
    with _Progress() as progress:
        found = _find(args, subject, targets, table, where, isa, progress)
    for target, (each, dense) in found.items():
        path = out.with_name(f"{out.stem}-{target:g}{out.suffix}") if args.frontier else out
        picture = path.with_suffix(plot.suffix) if args.frontier else plot
        write_mask_plan(each.plan, path)
        _write_picture(picture, kind, partial(draw_plan, each.plan, dense))
        if not args.frontier:
            _show(console, each, dense)
        console.print(f"Wrote {path}")
    if args.frontier:
        points = [(each.speedup, each.loss) for each, _ in found.values()]
        base = next(iter(found.values()))[0].dense_loss
        _write_picture(plot, kind, partial(draw_frontier, points, base))
        _show_frontier(console, {target: each for target, (each, _) in found.items()})
    console.print(f"Wrote {plot}")
    return 0


def _find(
    args: argparse.Namespace,
    subject: _Subject,
    targets: Sequence[float],
    table: TimeTable,
    where: str,
    isa: str,
    progress: _Progress,
) -> dict[float, tuple[Found, dict[str, float]]]:
    """The best plan for each target, with its layers' dense times."""
    from activsparse.errors import ActivsparseError

    sizes = [subject.size]
    if "input-size" in args.allow:
        sizes += _smaller(subject.size)
    best: dict[float, tuple[Found, dict[str, float]]] = {}
    problem: ActivsparseError | None = None
    with _timing(args, subject, isa) as timing:
        for size in sizes:
            faster = 1.0 if size == subject.size else timing.smaller(size)
            left = {target: target / faster for target in targets if target / faster > 1.0}
            with _planner(args, subject, size, table, where, progress) as planner:
                for target, wanted in left.items():
                    if _hopeless(best.get(target), planner):
                        continue
                    progress.title = f"{target:g} times as fast"
                    if size != subject.size:
                        progress.title += f" at {size[0]}x{size[1]}"
                    try:
                        found = planner.find(wanted, timing.of_masks(size), rounds=args.rounds)
                    except ActivsparseError as error:
                        problem = problem or error
                        continue
                    if target not in best or found.loss < best[target][0].loss:
                        best[target] = _at_size(found, target, faster, size), _dense(planner, table)
    missing = [target for target in targets if target not in best]
    if missing and problem is not None and not (args.frontier and best):
        raise problem
    return best


def _hopeless(best: tuple[Found, Any] | None, planner: Any) -> bool:
    """Whether the smaller input alone loses more than what was found."""
    inner = planner.planner
    return best is not None and inner.whole_loss(inner.dense, "dense") >= best[0].loss


def _at_size(found: Found, target: float, faster: float, size: tuple[int, int]) -> Found:
    notes = {
        **found.plan.notes,
        "target_speedup": target,
        "speedup": round(found.speedup * faster, 3),
    }
    return replace(found, plan=replace(found.plan, notes=notes), speedup=found.speedup * faster)


def _dense(planner: Any, table: TimeTable) -> dict[str, float]:
    from activsparse.masks.latency import dense_ms

    return {layer.name: dense_ms(layer.conv, table) for layer in planner.planner.layers}


def _smaller(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Smaller inputs of about the same shape, in multiples of 8."""
    found = dict.fromkeys(
        (max(8, round(size[0] * s / 8) * 8), max(8, round(size[1] * s / 8) * 8)) for s in SIZES
    )
    return [each for each in found if each < size]


@contextmanager
def _planner(
    args: argparse.Namespace,
    subject: _Subject,
    size: tuple[int, int],
    table: TimeTable,
    where: str,
    progress: _Progress,
) -> Iterator[Any]:
    from activsparse.masks import MaskOptions
    from activsparse.train.plan.plan_network import planning
    from activsparse.train.tasks.task import held_out_loss

    out = Path(args.out)
    tail = "" if size == subject.size else f"-{size[0]}x{size[1]}"
    example = subject.example(size)
    with planning(
        subject.model,
        example,
        subject.batches(size, args.images),
        held_out_loss(subject.model, example),
        table=table,
        where=where,
        patterns=args.patterns,
        fills=args.fills,
        count=args.masks,
        losses=out.with_name(f"{out.stem}{tail}.losses.csv"),
        advance=progress.advance,
        options=mask_options(args, MaskOptions()),
    ) as planner:
        yield planner


class _Timing:
    """Measured times of the network in the engine, in files of a folder of its own."""

    def __init__(self, args: argparse.Namespace, subject: _Subject, isa: str, folder: Path) -> None:
        self._args, self._subject, self._folder = args, subject, folder
        self._session = {"isa": isa}
        self._files: dict[tuple[int, int], Path] = {}

    def of_masks(self, size: tuple[int, int]) -> Callable[[MaskPlan], float] | None:
        """What times a plan's network against the dense one of the same size."""
        if self._args.estimate:
            return None
        from activsparse.bench.measured_speedup import measured_speedup
        from activsparse.export.mask_by_plan import mask_by_plan
        from activsparse.export.model_file import read_model, write_model

        def measure(plan: MaskPlan) -> float:
            dense, masked = self._dense(size), self._folder / "masked.onnx"
            write_model(mask_by_plan(read_model(dense), plan)[0], masked)
            return measured_speedup(
                dense,
                masked,
                threads=self._args.threads,
                repeat=self._args.repeat,
                session=self._session,
            )

        return measure

    def smaller(self, size: tuple[int, int]) -> float:
        """How many times as fast the dense network is at a smaller size, measured or estimated."""
        if self._args.estimate:
            from activsparse.masks.latency import dense_ms
            from activsparse.train.sparsify.layers import find_layers

            whole, part = (
                sum(
                    dense_ms(layer.shape)
                    for layer in find_layers(self._subject.model, self._subject.example(each))
                )
                for each in (self._subject.size, size)
            )
            return whole / part
        from activsparse.bench.measured_speedup import size_speedup

        return size_speedup(
            self._dense(self._subject.size),
            self._dense(size),
            threads=self._args.threads,
            repeat=self._args.repeat,
            session=self._session,
        )

    def _dense(self, size: tuple[int, int]) -> Path:
        from activsparse.export.onnx import export_onnx

        if size not in self._files:
            self._files[size] = self._folder / f"dense-{size[0]}x{size[1]}.onnx"
            export_onnx(self._subject.model, self._subject.example(size), self._files[size])
        return self._files[size]


@contextmanager
def _timing(args: argparse.Namespace, subject: _Subject, isa: str) -> Iterator[_Timing]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        yield _Timing(args, subject, isa, Path(folder))


def _subject(args: argparse.Namespace) -> _Subject:
    """The network that is meant."""
    from activsparse.engine.plan_file import is_plan
    from activsparse.errors import ActivsparseError

    path = Path(args.model)
    if path.is_dir():
        return _of_run(args)
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


def _of_run(args: argparse.Namespace) -> _Subject:
    from activsparse.train.run.folder import load_run

    run = load_run(args.model, args.checkpoint, trust=args.trust)
    if run.sparsifier is not None:
        run.sparsifier.detach()
    _, channels, *_ = run.example_input.shape
    size = args.image_size or (run.example_input.shape[2], run.example_input.shape[3])
    section = run.config.data.model_copy(update=_data_changes(args))
    return _Subject(run.model, channels, size, section, run.config.seed)


def _of_name(args: argparse.Namespace) -> _Subject:
    from activsparse.data import build_data
    from activsparse.models import build_model
    from activsparse.train.recipes.config import DataSection
    from activsparse.train.tasks.task import check_task

    size = args.image_size or (224, 224)
    section = DataSection(image_size=size, **_data_changes(args))
    data = build_data(**section.model_dump(), seed=0)
    channels = data.shape[0]
    model = build_model(args.model, data.num_classes, args.weights, in_channels=channels)
    check_task(model, data)
    return _Subject(model.eval(), channels, size, section, 0)


def _data_changes(args: argparse.Namespace) -> dict[str, Any]:
    given = {"name": args.data, "root": args.data_root}
    return {"batch_size": args.batch_size, **{k: v for k, v in given.items() if v is not None}}


class _Progress:
    """A bar of the measurements of a round and the time they take still."""

    def __init__(self) -> None:
        self.title = "measuring losses"
        self._stack = ExitStack()

    def __enter__(self) -> _Progress:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as Left

        console = plain_console(stderr=True)
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), Left())
        bar = Progress(*columns, console=console, disable=not console.is_terminal)
        self._bar = self._stack.enter_context(bar)
        self._task = bar.add_task(self.title, total=None)
        self._last = 0
        return self

    def __exit__(self, *args: object) -> None:
        self._stack.__exit__(*args)  # type: ignore[arg-type]

    def advance(self, done: int, total: int, what: str) -> None:
        """Note a measurement."""
        if done < self._last:
            self._bar.reset(self._task)
        self._last = done
        self._bar.update(
            self._task, completed=done, total=total, description=f"{self.title}: {what}"
        )


def _write_picture(path: Path, kind: str, draw: Callable[[Path, str], None]) -> None:
    from activsparse.files import atomic_path

    with atomic_path(path) as file:
        draw(file, kind)


def _show(console: Console, found: Found, dense: dict[str, float]) -> None:
    from rich.table import Table

    from activsparse.masks.mask_plan import describe

    table = Table("layer", "convolution", "mask", "fill", "skipped", "dense ms", "ms", "loss")
    skipped = found.plan.sparsities()
    for name, layer in found.plan.layers.items():
        table.add_row(
            name,
            describe(layer.conv),
            str(layer.exact),
            "" if layer.dense else layer.fill,
            f"{skipped.get(name, 0.0):.3f}",
            f"{dense[name]:.3f}",
            f"{layer.ms:.3f}",
            f"{layer.loss:+.4f}",
        )
    console.print(table)
    notes = found.plan.notes
    size = "x".join(map(str, found.plan.input_size))
    console.print(
        f"{found.speedup:.2f} times as fast ({notes['speedup_is']}), input {size}, "
        f"loss {found.dense_loss:.4f} -> {found.loss:.4f}"
    )
    target = float(notes["target_speedup"])
    if notes["speedup_is"] == "measured" and abs(found.speedup / target - 1) > 0.05:
        console.print(f"That is the nearest to {target:g} that was found; is the machine busy?")


def _show_frontier(console: Console, found: dict[float, Found]) -> None:
    from rich.table import Table

    table = Table("target", "times as fast", "input", "loss", "layers masked")
    for target, each in found.items():
        table.add_row(
            f"{target:g}",
            f"{each.speedup:.2f}",
            "x".join(map(str, each.plan.input_size)),
            f"{each.loss:.4f}",
            f"{len(each.plan.masked())} of {len(each.plan.layers)}",
        )
    for target in FRONTIER:
        if target not in found:
            table.add_row(f"{target:g}", "out of reach")
    console.print(table)
