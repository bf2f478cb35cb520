"""A report of one's own runs: their networks exported, timed, profiled and asked, side by side."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from activsparse.bench.compare import short_names
from activsparse.data import BatchData, build_data
from activsparse.data.registry import BOXES
from activsparse.engine.report import savings_of
from activsparse.engine.session import Session
from activsparse.errors import ActivsparseError
from activsparse.export.onnx import export_onnx
from activsparse.export.read import read_masks
from activsparse.files import require_file
from activsparse.pipeline.photographs import classes_of, differences, first_pictures
from activsparse.pipeline.progress import Measuring
from activsparse.pipeline.score import IntArray, answers, in_words, paired_interval
from activsparse.pipeline.timing import time_files
from activsparse.pipeline.work import NOTED
from activsparse.report import Loss, Report, Variant, layers_of, times_of
from activsparse.train.run.folder import Run, load_run, read_run_config, recipe_plan

__all__ = ["read_losses", "report_of_runs"]


@dataclass(frozen=True)
class _Network:
    """A run with its data and, once exported, its file."""

    name: str
    folder: Path
    run: Run
    data: BatchData
    file: Path


def report_of_runs(
    folders: Sequence[Path],
    engines: Sequence[str],
    *,
    threads: int = 1,
    repeat: int = 50,
    images: int | None = None,
    losses: Sequence[Loss] = (),
    trust: bool = False,
    console: Console | None = None,
) -> Report:
    """Export, time, profile and ask all networks of some runs.

    Args:
        folders: of `activsparse train`, or results of `activsparse sparsify`. Where none is dense,
            the dense network they started from comes along.
        engines: to time them on, this one among them.
        threads: of every engine.
        repeat: timed runs of each network and engine.
        images: how many held-out images networks are asked, None for all.
        losses: what single layers lose, if that was measured.
        trust: whether run folders may name code of their own, see `load_run`.
        console: shows progress bars.

    Raises:
        ActivsparseError: no run folder, a detector, no network without masks, other test images.
    """
    places = _with_dense(folders, trust)
    names = short_names([str(place) for place in places])
    with tempfile.TemporaryDirectory() as scratch:
        networks = []
        for number, place in enumerate(places):
            run = load_run(place, trust=trust)
            if run.config.data.name in BOXES:
                raise ActivsparseError(
                    f"{place}: is a detector, and reports are of classifiers; activsparse "
                    "detect shows what it finds"
                )
            data = build_data(**run.config.data.model_dump(), seed=run.config.seed)
            file = Path(scratch) / f"{number}.onnx"
            networks.append(_Network(names[str(place)], place, run, data, file))
        networks.sort(key=lambda network: network.run.sparsifier is not None)
        if networks[0].run.sparsifier is not None:
            raise ActivsparseError(
                f"{folders[0]}: has masks, and no run without is among them to compare it with; "
                "name the dense one too"
            )
        for network in networks:
            _export(network)
        return _report(networks, engines, threads, repeat, images, losses, console)


def read_losses(path: Path) -> list[Loss]:
    """What `activsparse sensitivity --out` wrote.

    Raises:
        ActivsparseError: no such file, or another one.
    """
    with require_file(path).open(newline="", encoding="utf-8", errors="replace") as file:
        try:
            return [
                Loss(row["layer"], float(row["requested"]), float(row["loss_increase"]))
                for row in csv.DictReader(file)
            ]
        except (KeyError, TypeError, ValueError) as error:
            raise ActivsparseError(
                f"{path}: holds no measured sensitivities ({error}); name a file that activsparse "
                "sensitivity wrote"
            ) from error


def _with_dense(folders: Sequence[Path], trust: bool) -> list[Path]:
    """The run folders, each once; where all have masks, also the dense ones they started from."""
    named: list[Path] = []
    starts: list[Path] = []
    for folder in folders:
        if (folder / NOTED).is_file():
            runs = [folder / "dense", folder / "masked"]
            if not all((run / "best.ckpt").is_file() for run in runs):
                raise ActivsparseError(
                    f"{folder}: activsparse sparsify has not trained both networks there yet; give "
                    "its command again, which goes on"
                )
            named += runs
        else:
            named.append(folder)
            config = read_run_config(folder, trust)
            if config.dense is not None and config.init_from is None:
                starts.append(folder / "dense")
            elif config.init_from is not None:
                starts.append(Path(config.init_from))
    dense = any(read_run_config(place, trust).sparsity is None for place in named)
    if not dense:
        named = [start for start in starts if (start / "best.ckpt").is_file()] + named
    return list({place.resolve(): place for place in named}.values())


def _export(network: _Network) -> None:
    run = network.run
    layers = [] if run.sparsifier is None else run.sparsifier.layers
    requested = {layer.name: layer.requested for layer in layers}
    export_onnx(run.model, run.example_input, network.file, requested=requested)


def _report(
    networks: Sequence[_Network],
    engines: Sequence[str],
    threads: int,
    repeat: int,
    images: int | None,
    losses: Sequence[Loss],
    console: Console | None,
) -> Report:
    dense, *others = networks
    comparison = time_files(
        dense.file,
        [network.file for network in others],
        engines,
        threads=threads,
        repeat=repeat,
        console=console,
    )
    variants: list[Variant] = []
    answered: dict[str, IntArray] = {}
    labels = np.zeros(0, np.int64)
    for network in networks:
        session = Session(network.file, threads=threads)
        nodes = session.profile()
        with Measuring(f"{network.name}: held-out images, batches", console) as progress:
            right, said = answers({network.name: session}, network.data, progress, images)
        if not variants:
            labels = right
        elif not np.array_equal(labels, right):
            raise ActivsparseError(
                f"{network.folder}: is tested on other images than {dense.folder}; name runs on "
                "the same data"
            )
        answered |= said
        section = network.run.config.sparsity
        variants.append(
            Variant(
                network.name,
                str(network.file),
                float(np.mean(said[network.name] == right)),
                None if section is None else section.sparsity,
                layers_of(nodes),
                read_masks(network.file),
                times_of(nodes),
                said[network.name],
                None if section is None or section.plan is None else recipe_plan(section.plan),
                savings_of(nodes),
            )
        )
    classes = classes_of(dense.data)
    masked = {network.name: answered[network.name] for network in others}
    return Report(
        title=f"{dense.run.config.model.name} on {_data_name(dense.run)}",
        summary=" ".join(
            _sentence(name, dense.name, ratio, answered, labels)
            for name, ratio in zip(
                masked, (r for r in comparison.ratios if r["model"] != str(dense.file)), strict=True
            )
        ),
        variants=variants,
        comparison=comparison,
        images=first_pictures(dense.data),
        settings={
            "runs": ", ".join(str(network.folder) for network in networks),
            "images": f"{len(labels)} "
            f"{'test' if dense.data.has_test else 'validation'} images, "
            f"{'x'.join(map(str, dense.data.shape[1:]))} pixels",
            "timing": f"{repeat} interleaved runs per network and engine, batch 1, "
            f"{threads} thread(s)",
        },
        labels=labels,
        classes=classes,
        differences=differences(dense.data, classes, labels, answered[dense.name], masked),
        losses=losses,
    )


def _data_name(run: Run) -> str:
    section = run.config.data
    return section.name if section.root is None else Path(section.root).name


def _sentence(
    name: str,
    dense: str,
    ratio: Mapping[str, float],
    answered: Mapping[str, IntArray],
    labels: IntArray,
) -> str:
    one, other = answered[dense] == labels, answered[name] == labels
    lost = in_words(float(np.mean(one) - np.mean(other)), paired_interval(one, other))
    return f"{name} is {ratio['vs_own_dense']:.2f} times as fast as {dense} here, {lost}."
