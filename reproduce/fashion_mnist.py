"""The Fashion-MNIST study: what masks cost in accuracy, at equal training.

    python reproduce/fashion_mnist.py --out study     # hours on a CPU; stop and repeat it at will
    taskset -c 1 python reproduce/fashion_mnist.py --out study --latency
    python reproduce/fashion_mnist.py --plot

One dense network (`base`, seed 0) is trained for 5 epochs; every row and seed then trains that
network for one more epoch in its own way, `dense` without masks. Runs are resumed where they were
stopped and done once; several processes may work on one folder, each takes runs no other is at. The
results are in reproduce/results; the plot and the table in docs follow from those.
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from study import carry_out, claimed, run_folder, start_from

from activsparse.errors import ActivsparseError
from activsparse.files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor, nn

RESULTS = Path(__file__).parent / "results"
SIZE = 28
EPOCHS = 1
# What all runs share: bf16 halves the time, and the accuracy lost to it is the same in all rows; so
# short a training is better, by half a point dense, without shifted and mirrored images.
COMMON = (
    "threads=1",
    "training.precision=bf16-mixed",
    "data.validation=0.05",
    "data.augment=false",
)
BASE = ("dense=null", "sparsity=null", "training.epochs=5", "training.lr=0.1")
DENSE = "sparsity=null"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Row:
    """One way to go on training the base network: a recipe, with changes."""

    recipe: str
    changes: tuple[str, ...] = ()
    pruned: float | None = None  # share of channels taken out of the base before


def _masks(pattern: str, sparsity: float, fill: str = "zero") -> tuple[str, ...]:
    return (f"sparsity.pattern={pattern}", f"sparsity.sparsity={sparsity}", f"sparsity.fill={fill}")


_PLAIN = "fashion_mnist_tiles"
_SEARCH = "search.candidates=16"
# The best recipe's teacher is the network it starts as, so that no row trains more than others.
_TEACHER = ("distillation.teacher=dense", "distillation.weight=1")
_ALONE = "distillation=null"


def _fast(speedup: float) -> Row:
    """The best recipe with masks for time: patterns by layer, sparsities for a speed-up."""
    target = f"search.target_speedup={speedup}"
    return Row("fashion_mnist_best", ("sparsity.pattern=auto", "search.spread=false", target))


ROWS = {
    # The rows the comparison stands on come first.
    "dense": Row(_PLAIN, (DENSE,)),
    "input 23": Row(_PLAIN, (DENSE, "data.image_size=23")),
    "input 20": Row(_PLAIN, (DENSE, "data.image_size=20")),
    "paper 0.3": Row("fashion_mnist_paper"),
    "best 0.3": Row("fashion_mnist_best"),
    "best 0.5": Row("fashion_mnist_best", ("sparsity.sparsity=0.5",)),
    "paper 0.5": Row("fashion_mnist_paper", ("sparsity.sparsity=0.5",)),
    # Masks chosen for the time they save, not for multiply-adds.
    "fast 1.3": _fast(1.3),
    "fast 1.6": _fast(1.6),
    "auto 0.5": Row(_PLAIN, _masks("auto", 0.5, "auto")),
    "tiles 0.3 auto fill": Row(_PLAIN, _masks("tiles", 0.3, "auto")),
    "auto 0.3": Row(_PLAIN, _masks("auto", 0.3, "auto")),
    # Patterns and fills one by one.
    "lattice 0.33 auto fill": Row(_PLAIN, _masks("lattice", 0.33, "auto")),
    "lattice 0.33": Row(_PLAIN, _masks("lattice", 0.33)),
    "lattice 0.5": Row(_PLAIN, _masks("lattice", 0.5)),
    "tiles 0.3": Row(_PLAIN, _masks("tiles", 0.3)),
    "lattice 0.33 nearest": Row(_PLAIN, _masks("lattice", 0.33, "nearest")),
    "lattice 0.5 nearest": Row(_PLAIN, _masks("lattice", 0.5, "nearest")),
    "tiles 0.3 nearest": Row(_PLAIN, _masks("tiles", 0.3, "nearest")),
    "channels 0.16": Row(_PLAIN, (DENSE,), pruned=0.16),
    "channels 0.29": Row(_PLAIN, (DENSE,), pruned=0.29),
    "channels 0.16, best 0.3": Row("fashion_mnist_best", pruned=0.16),
    "paper 0.2": Row("fashion_mnist_paper", ("sparsity.sparsity=0.2",)),
    "lattice 0.2": Row(_PLAIN, _masks("lattice", 0.2)),
    "lattice 0.2 nearest": Row(_PLAIN, _masks("lattice", 0.2, "nearest")),
    # What the teacher does for both sides; score maps searched on held-out images.
    "dense, distilled": Row(_PLAIN, (DENSE, *_TEACHER)),
    "best 0.3, not distilled": Row("fashion_mnist_best", (_ALONE,)),
    "best 0.5, not distilled": Row("fashion_mnist_best", ("sparsity.sparsity=0.5", _ALONE)),
    "paper 0.3, searched": Row("fashion_mnist_paper", (_SEARCH,)),
}


def main() -> int:
    """Carry out what the command line asks for."""
    args = _arguments()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", force=True)
    rows = {name: row for name, row in ROWS.items() if not args.rows or name in args.rows}
    try:
        if args.plot:
            from fashion_mnist_plot import plot

            plot(args.results)
        elif args.latency:
            from fashion_mnist_latency import latency

            latency(_networks(args.out, rows), args.results)
        else:
            _train(args.out, rows, args.seeds, args.results, args.set)
    except ActivsparseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("study"), help="folder of the runs")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="+", choices=list(ROWS), default=[], metavar="ROW")
    parser.add_argument(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="change all runs, for example data.augment=false; name another --out and --results",
    )
    parser.add_argument("--latency", action="store_true", help="time the networks in the engine")
    parser.add_argument(
        "--plot", action="store_true", help="draw docs/fashion_mnist.png and print the table"
    )
    return parser.parse_args()


def _train(
    out: Path, rows: dict[str, Row], seeds: list[int], results: Path, changes: list[str]
) -> None:
    from activsparse.train.run.interrupt import Interrupted

    jobs = [(seed, name) for seed in seeds for name in rows]
    try:
        for number, (seed, name) in enumerate(jobs):
            _log.info("%d of %d: %s, seed %d", number + 1, len(jobs), name, seed)
            base, row = run_folder(out, "base", 0), rows[name]
            run = run_folder(out, name, seed)
            if (run / "summary.json").is_file():
                continue
            with claimed(base, wait=True):
                carry_out(base, "fashion_mnist_tiles", [*BASE, *COMMON, *changes])
                first = start_from(base, row.pruned)
            start = [
                f"init_from={first}",
                "dense=null",
                f"training.epochs={EPOCHS}",
                f"seed={seed}",
            ]
            with claimed(run) as mine:
                if mine:
                    carry_out(run, row.recipe, [*start, *COMMON, *row.changes, *changes])
                    _write_results(out, results)
        _write_results(out, results)
    except Interrupted:
        _log.info("stopped; the same command goes on from here")


def _networks(out: Path, rows: dict[str, Row]) -> Iterator[tuple[str, nn.Module, Tensor]]:
    """The rows' networks with their masks, trained or, where training waits, with fresh weights.

    Time depends little on weights; but a fresh norm leaves zeros before it zero, which the
    published procedure's masks gain by. Rows that differ in training alone are left out; so are
    those whose base, or whose choice of sparsities by layer, is not there yet.
    """
    from activsparse.models import build_model
    from activsparse.train.plan.target import asks_for_plan
    from activsparse.train.recipes.read import load_config
    from activsparse.train.run.folder import example_input, load_run, make_sparsifier

    base = run_folder(out, "base", 0)
    for name, row in {"dense": ROWS["dense"], **rows}.items():
        if {*_TEACHER, _ALONE, _SEARCH} & {*row.changes}:
            continue
        config = load_config(row.recipe, [*COMMON, *row.changes])
        run = run_folder(out, name, 0)
        if (run / "best.ckpt").is_file():
            trained = load_run(run)
            yield name, trained.model, trained.example_input
            continue
        if asks_for_plan(config):
            continue
        if row.pruned is None:
            model = build_model("small_resnet", 10, in_channels=1)
        elif (base / "best.ckpt").is_file():
            model = load_run(start_from(base, row.pruned)).model
        else:
            continue
        size = config.data.image_size
        side = size if isinstance(size, int) else size[0]
        example = example_input((1, side, side))
        sparsifier = make_sparsifier(model, example, config, total_steps=1)
        if sparsifier is not None:
            sparsifier.freeze()
        yield name, model.eval(), example


def _write_results(out: Path, results: Path) -> None:
    """One line per finished run of a row that still exists, seeds together."""
    with claimed(out / "results", wait=True):
        _write_finished(out, results)


def _write_finished(out: Path, results: Path) -> None:
    found = [
        _result(name, seed, run_folder(out, name, seed))
        for name in ("base", *ROWS)
        for seed in sorted(int(p.name.removeprefix("seed")) for p in out.glob("seed*"))
        if (run_folder(out, name, seed) / "summary.json").is_file()
    ]
    results.mkdir(parents=True, exist_ok=True)
    with atomic_path(results / "fashion_mnist.csv") as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)


@cache
def _result(name: str, seed: int, folder: Path) -> dict[str, Any]:
    import json

    summary = json.loads((folder / "summary.json").read_text())
    return {
        "row": name,
        "seed": seed,
        "top1": round(summary["top1"], 4),
        "macs": round(_macs(folder) * summary["kept_macs"] / _macs(None), 4),
        "sparsity": round(summary["achieved"], 4),
        "parameters": summary["parameters"],
        "epochs": summary["epochs"],
        "seconds": round(summary["seconds"]),
    }


def _macs(folder: Path | None) -> int:
    """Multiply-adds of a run's convolutions without masks; of the whole network without a run."""
    import torch

    from activsparse.models import build_model
    from activsparse.train.run.folder import load_run
    from activsparse.train.sparsify.layers import find_layers

    if folder is None:
        model, example = (
            build_model("small_resnet", 10, in_channels=1),
            torch.zeros(1, 1, SIZE, SIZE),
        )
    else:
        run = load_run(folder)
        if run.sparsifier is not None:
            run.sparsifier.detach()
        model, example = run.model, run.example_input
    return sum(layer.macs for layer in find_layers(model, example))


if __name__ == "__main__":
    sys.exit(main())
