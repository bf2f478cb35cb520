"""Accuracy against measured time: masks beside smaller inputs and fewer channels, trained alike.

    python reproduce/plane.py R --out plane             # or M, S, E: hours; stop and repeat it
    taskset -c 1 python reproduce/plane.py R --out plane --time
    taskset -c 1 python reproduce/plane.py R --out plane --time --rows "plan 1.5"
    python reproduce/plane.py R --out plane --pair "channels 0.45" "channels 0.3 plan 1.2"
    python reproduce/plane.py --plot

One dense network is trained (`base`, seed 0; of E one for each fold, which the seed is the number
of). Every row and seed then trains it on in its own way, taught by it, on the same images in the
same order; the teacher of smaller inputs sees the full size. Masks of rows `plan X` are chosen by
`activsparse plan --frontier` for X times the dense network's speed, measured on the machine where
they are chosen. The network whose accuracy is given is the one that is timed: in the engine and in
ONNX Runtime, one thread, interleaved.

Runs are done once and resumed where they were stopped; several processes may work on one folder.
The results are in reproduce/results/plane.csv, one line per network, row and seed.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import shutil
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from solar_cells import MODEL, WEIGHTS, prepare
from study import carry_out, claimed, run_folder, start_from

from activsparse.errors import ActivsparseError
from activsparse.files import atomic_path

if TYPE_CHECKING:
    from activsparse.train.recipes.config import Config

RESULTS = Path(__file__).parent / "results"
CSV = "plane.csv"
COLUMNS = (
    *("network", "row", "kind", "seed", "top1", "ms", "ort_ms", "machine", "epochs"),
    # Of so many test images so many that only the dense row, and only this row gets right.
    *("images", "only_dense", "only_row"),
    # Of the dense row in the same run of the timer: what this row's times are compared with.
    *("dense_ms", "dense_ort_ms"),
    # With weights kept in float16; the dense row keeps float32.
    *("half_ms", "half_only_dense", "half_only_row"),
)
REPEAT = 100

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Network:
    """A network, its images, and how its base is trained.

    Attributes:
        recipe: that everything extends.
        common: settings of all runs.
        base: settings of the base.
        size: side of the images.
        smaller: inputs to compare with.
        epochs: of each row.
        images: that losses under masks are measured on.
        planned: further options of `activsparse plan`.
        smaller_too: targets of plans with smaller inputs.
        folds: whether each seed has test images, and so a base, of its own; `common` and `base`
            then say {data} for the folder of photographs and weights, {seed} for the seed.
    """

    recipe: str
    common: tuple[str, ...]
    base: tuple[str, ...]
    size: int
    smaller: tuple[int, ...]
    epochs: int = 1
    images: int = 512
    planned: tuple[str, ...] = ()
    smaller_too: tuple[float, ...] = (1.35, 1.6, 2.0)
    folds: bool = False

    def base_seed(self, seed: int) -> int:
        """Seed of the base that a seed's rows start from."""
        return seed if self.folds else 0

    def settings(self, data: Path, seed: int) -> tuple[list[str], list[str]]:
        """Settings of all runs, and those of a base."""
        seed = self.base_seed(seed)
        common, base = (
            [text.replace("{data}", str(data)).replace("{seed}", str(seed)) for text in texts]
            for texts in (self.common, self.base)
        )
        return common, base


_FASHION = (
    "threads=1",
    "training.precision=bf16-mixed",
    "data.validation=0.05",
    "data.augment=false",
)
_AT_64 = (*_FASHION, "data.image_size=64")
NETWORKS = {
    "R": Network(
        "fashion_mnist_tiles",
        (
            *_AT_64,
            "model.name=timm:resnet18",
            "model.options={channels: [32, 64, 128, 256], stem_width: 32}",
        ),
        ("dense=null", "sparsity=null", "training.epochs=4", "training.lr=0.1"),
        64,
        (56, 48, 40),
    ),
    "M": Network(
        "fashion_mnist_tiles",
        (*_AT_64, "model.name=mobilenet_v2", "model.options={width_mult: 0.5}"),
        ("dense=null", "sparsity=null", "training.epochs=4", "training.lr=0.1"),
        64,
        (56, 48, 40),
    ),
    "S": Network(
        "fashion_mnist_tiles",
        (*_FASHION, "data.image_size=28"),
        ("dense=null", "sparsity=null", "training.epochs=5", "training.lr=0.1"),
        28,
        (26, 23, 20),
    ),
    "E": Network(
        "finetune",
        (
            f"model.name=timm:{MODEL}",
            f"model.weights={{data}}/{WEIGHTS}",
            "data.root={data}/fold{seed}",
            "data.image_size=224",
            "data.crop=1",
            "data.mean=[0.498, 0.498, 0.498]",
            "data.std=[0.502, 0.502, 0.502]",
            "data.validation=0.05",
            "training.epochs=4",
        ),
        ("dense=null", "sparsity=null", "distillation=null"),
        224,
        (208, 192, 176, 160, 128),
        epochs=2,
        images=128,
        planned=("--patterns", "band", "lattice", "--masks", "2"),
        smaller_too=(1.75, 2.0, 2.5, 3.0),
        folds=True,
    ),
}


@dataclass(frozen=True)
class Row:
    """One way to go on training the base.

    Attributes:
        kind: of row, as in the results.
        changes: of the recipe.
        pruned: share of channels taken out before.
        plan: speed-up of the plan whose masks it gets.
        allow: what else the plan may change, as of `activsparse plan`.
        times: as many epochs as the other rows.
    """

    kind: str
    changes: tuple[str, ...] = ("sparsity=null",)
    pruned: float | None = None
    plan: float | None = None
    allow: str | None = None
    times: int = 1


_PUBLISHED = (
    "sparsity.pattern=random",
    "sparsity.criterion=lnorm",
    "sparsity.site=conv",
    "sparsity.skip_stem=false",
    "sparsity.skip_shortcuts=false",
    "sparsity.skip_kernel_sizes=[1]",
    "sparsity.schedule=polynomial",
    "sparsity.begin=0.1",
    "sparsity.end=0.5",
    "search.recalibrate=false",
)


_BOTH = "channels 0.3 plan 1.35"


def rows_of(network: Network) -> dict[str, Row]:
    """The rows by name; those the comparison stands on come first."""
    found = {"dense": Row("dense")}
    for target in (1.35, 1.75, 1.2, 2.0, 1.5):
        found[f"plan {target:g}"] = Row("ours", (), plan=target)
    for target in network.smaller_too:
        found[f"plan {target:g} smaller"] = Row("ours", (), plan=target, allow="input-size")
    for target in (1.5, 2.0):
        found[f"plan {target:g} fewer"] = Row(
            "channels_and_masks", (), plan=target, allow="channels"
        )
    for side in network.smaller:
        changes = (f"data.image_size={side}", f"distillation.image_size={network.size}")
        found[f"input {side}"] = Row("smaller_input", ("sparsity=null", *changes))
    for ratio in (0.15, 0.3, 0.45):
        found[f"channels {ratio:g}"] = Row("channels", pruned=ratio)
    for ratio, target in ((0.3, 1.2), (0.3, 1.35), (0.3, 1.5), (0.15, 1.35)):
        found[f"channels {ratio:g} plan {target:g}"] = Row(
            "channels_and_masks", (), pruned=ratio, plan=target
        )
    for name in ("dense", "plan 1.5", "plan 1.75", "channels 0.3", "channels 0.45", _BOTH):
        found[f"{name} longer"] = replace(found[name], kind="ablation", times=4)
    found["lattice 0.3"] = Row("ablation", ("sparsity.pattern=lattice",))
    found["tiles 0.3"] = Row("ablation", ("sparsity.pattern=tiles",))
    found["paper 0.3"] = Row("paper", _PUBLISHED)
    return found


def main() -> int:
    """Carry out what the command line asks for."""
    args = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    try:
        if args.plot:
            from plane_plot import plot

            plot(args.results)
        elif args.pair:
            _pair(NETWORKS[args.network], args.out / args.network, args.seeds, *args.pair)
        elif args.time:
            _time(args.network, args.out / args.network, args.rows, args.seeds, args.results)
        else:
            _train(NETWORKS[args.network], args.out / args.network, args.rows, args.seeds)
    except ActivsparseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("network", nargs="?", choices=list(NETWORKS), default="R")
    parser.add_argument("--out", type=Path, default=Path("plane"), help="folder of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", default=[], metavar="ROW")
    parser.add_argument("--time", action="store_true", help="time the trained networks")
    parser.add_argument(
        "--pair",
        nargs=2,
        metavar="ROW",
        help="how much more right the second row is, image by image",
    )
    parser.add_argument("--plot", action="store_true", help="draw the planes, write the tables")
    return parser.parse_args()


def _train(network: Network, out: Path, names: list[str], seeds: list[int]) -> None:
    from activsparse.train.run.interrupt import Interrupted

    rows = {name: row for name, row in rows_of(network).items() if not names or name in names}
    data = out / "data"
    if network.folds:
        prepare(data)
    jobs = [(seed, name) for seed in seeds for name in rows]
    try:
        for number, (seed, name) in enumerate(jobs):
            run, row = run_folder(out, name, seed), rows[name]
            base = run_folder(out, "base", network.base_seed(seed))
            common, of_base = network.settings(data, seed)
            if (run / "summary.json").is_file():
                continue
            _log.info("%d of %d: %s, seed %d", number + 1, len(jobs), name, seed)
            with claimed(base, wait=True):
                carry_out(base, network.recipe, [*common, *of_base])
                first = start_from(base, row.pruned)
            plan = _plan(base, network, row, _subject(out, network, row, seed))
            with claimed(run) as mine:
                if mine:
                    changes = [
                        *common,
                        f"init_from={first}",
                        "dense=null",
                        f"training.epochs={network.epochs * row.times}",
                        f"seed={seed}",
                        "distillation.teacher=dense",
                        "distillation.weight=1",
                        *plan,
                        *row.changes,
                    ]
                    carry_out(run, network.recipe, changes)
    except Interrupted:
        _log.info("stopped; the same command goes on from here")


def _subject(out: Path, network: Network, row: Row, seed: int) -> Path:
    """The run that a row's masks are planned for: a pruned network once it was trained on."""
    name = "base" if row.pruned is None else f"channels {row.pruned:g}"
    return run_folder(out, name, network.base_seed(seed))


def _plan(base: Path, network: Network, row: Row, subject: Path) -> list[str]:
    """The settings that say which masks a row gets; they are planned first where need be."""
    from activsparse.cli import main as command
    from activsparse.masks.mask_plan_file import read_mask_plan

    if row.plan is None:
        return []
    if not (subject / "summary.json").is_file():
        raise ActivsparseError(f"{subject}: masks are planned for this run; train its row first")
    pruned = row.pruned and f"without-{row.pruned:g}"
    name = "-".join(filter(None, ("plans", row.allow, pruned)))
    path = base.with_name(f"{name}-{row.plan:g}.yaml")
    # Without measuring losses again around every solution, which would take hours.
    ask = ["plan", str(subject), "--images", str(network.images), "--rounds", "0"]
    more = [*network.planned, "--frontier"]
    if row.allow:  # training for all of the frontier would take a day
        rows = rows_of(network).values()
        targets = sorted({r.plan for r in rows if r.plan and r.allow == row.allow})
        more = [*network.planned, "--target-speedup", ",".join(map(str, targets))]
        more += ["--allow", row.allow, "--train-epochs", "1"]
    # Not under the base's claim: planning takes long, and rows without masks need not wait for it.
    with claimed(base.with_name(name), wait=True):
        out = str(base.with_name(f"{name}.yaml"))
        known = base.with_name(f"{'-'.join(filter(None, ('plans', pruned)))}.losses.csv")
        losses = base.with_name(f"{name}.losses.csv")
        if known.is_file() and not losses.exists():
            shutil.copy(known, losses)  # at its own size it was measured for other rows
        if not path.is_file() and command([*ask, *more, "--out", out]):
            raise ActivsparseError(f"{subject}: no plans could be made; see above")
    if not path.is_file():
        raise ActivsparseError(f"{path}: no masks make the network so fast; leave that row out")
    settings = [f"sparsity.plan={path}"]
    start = path.with_name(f"{path.stem}-pruned")
    if row.allow and start.is_dir():
        settings.append(f"init_from={start}")
    side = read_mask_plan(path).input_size[0]
    if side != network.size:
        settings += [f"data.image_size={side}", f"distillation.image_size={network.size}"]
    return settings


def _time(name: str, out: Path, names: list[str], seeds: list[int], results: Path) -> None:
    """Time finished runs, their own weights and masks, and write their lines.

    All of the network's, or those named and the dense one beside them, whose own line then stays.
    """
    import torch
    from plane_plot import baseline

    from activsparse.bench.compare import FLOAT32, HALF, OWN_ENGINE, compare
    from activsparse.bench.machine import summary_line
    from activsparse.export.onnx import export_onnx
    from activsparse.train.run.folder import load_run

    torch.set_num_threads(1)
    network, lines = NETWORKS[name], []
    wanted = {*names, *map(baseline, names)}
    for seed in seeds:
        runs = {row: run_folder(out, row, seed) for row in rows_of(network)}
        runs = {
            row: run
            for row, run in runs.items()
            if (run / "summary.json").is_file() and (not names or row in {"dense", *wanted})
        }
        if "dense" not in runs:
            continue
        with tempfile.TemporaryDirectory() as place:
            files, right, half = {}, {}, {}
            for number, (row, run) in enumerate(runs.items()):
                files[row] = Path(place) / f"{number}.onnx"
                trained = load_run(run)
                export_onnx(trained.model, trained.example_input, files[row])
                right[row] = _right(files[row], trained.config)
                half[row] = _right(files[row], trained.config, weights="float16")
            first, *others = files.values()
            found = compare(
                first,
                others,
                [OWN_ENGINE, "onnxruntime"],
                threads=1,
                repeat=REPEAT,
                session={"weights": "float16"},
            )
        times = {(row.model, row.engine, row.precision): row.median_ms for row in found.rows}
        own_ms, ort_ms, half_ms = (
            {row: times.get((str(path), *how), float("nan")) for row, path in files.items()}
            for how in ((OWN_ENGINE, FLOAT32), ("onnxruntime", FLOAT32), (OWN_ENGINE, HALF))
        )
        for row in [row for row in files if not names or row in names]:
            summary = json.loads((runs[row] / "summary.json").read_text())
            dense, own, kept = right[baseline(row)], right[row], half[row]
            values = (
                name,
                row,
                rows_of(network)[row].kind,
                seed,
                round(100 * float(own.mean()), 3),
                round(own_ms[row], 5),
                round(ort_ms[row], 5),
                summary_line(found.machine),
                summary["epochs"],
                len(own),
                int((dense & ~own).sum()),
                int((own & ~dense).sum()),
                round(own_ms["dense"], 5),
                round(ort_ms["dense"], 5),
                round(half_ms[row], 5),
                int((dense & ~kept).sum()),
                int((kept & ~dense).sum()),
            )
            lines.append(dict(zip(COLUMNS, values, strict=True)))
    _write(name, lines, results)


def _pair(network: Network, out: Path, seeds: list[int], one: str, other: str) -> None:
    """Say by how many points one row is more right than another, with a paired interval."""
    from activsparse.export.onnx import export_onnx
    from activsparse.pipeline.score import paired_interval
    from activsparse.train.run.folder import load_run

    unknown = [row for row in (one, other) if row not in rows_of(network)]
    if unknown:
        raise ActivsparseError(f"{unknown[0]}: no such row; {', '.join(rows_of(network))}")
    right: dict[str, list[npt.NDArray[np.bool_]]] = {one: [], other: []}
    for seed in seeds:
        for row, found in right.items():
            trained = load_run(run_folder(out, row, seed))
            with tempfile.TemporaryDirectory() as place:
                file = Path(place) / "row.onnx"
                export_onnx(trained.model, trained.example_input, file)
                found.append(_right(file, trained.config))
    first, second = (np.concatenate(found) for found in right.values())
    low, high = (100 * end for end in paired_interval(second, first))
    gained = 100 * float(second.mean() - first.mean())
    print(f"{other} is {gained:.2f} points more right than {one}, 95 % {low:.2f} to {high:.2f}")


def _right(path: Path, config: Config, weights: str = "float32") -> npt.NDArray[np.bool_]:
    """Which test images the network that is timed gets right, in the engine that times it."""
    from activsparse import Session
    from activsparse.data import build_data
    from activsparse.pipeline.progress import Measuring
    from activsparse.pipeline.score import answers

    data = build_data(**config.data.model_dump(), seed=config.seed)
    with Measuring("test images, batches", None) as progress:
        labels, said = answers({"row": Session(path, threads=1, weights=weights)}, data, progress)
    return said["row"] == labels


def _write(name: str, lines: list[dict[str, object]], results: Path) -> None:
    """Replace the lines of these rows and seeds, keep all others."""
    done = {(name, line["row"], str(line["seed"])) for line in lines}
    results.mkdir(parents=True, exist_ok=True)
    kept: list[dict[str, object]] = []
    if (results / CSV).is_file():
        with (results / CSV).open(newline="") as file:
            kept = [
                {**line}
                for line in csv.DictReader(file)
                if (line["network"], line["row"], line["seed"]) not in done
            ]
    with atomic_path(results / CSV) as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows([*kept, *lines])


if __name__ == "__main__":
    sys.exit(main())
