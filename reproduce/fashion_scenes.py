"""What masks cost a detector: YOLOv5n on fashion-scenes, at equal training.

    python reproduce/fashion_scenes.py --runs runs     # an hour; stop and repeat it at will

One dense network is trained; then it is trained on in three ways: without masks (`tuned`), by the
published procedure (`paper`) and with ours (`best`), both at 0.2. All figures are of the test
pictures, which nothing was chosen by. They go to a CSV file, and from there to docs/detection.md
with a chart and some of the pictures.
"""

from __future__ import annotations

import argparse
import csv
import logging
import sys
from pathlib import Path
from typing import Any

import fashion_scenes_plot

from activsparse.errors import ActivsparseError
from activsparse.files import atomic_path

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results" / "fashion_scenes.csv"
ROWS = ("dense", "tuned", "best", "paper")
COLUMNS = ("epochs", "requested", "achieved", "kept_macs", "map50", "map", "seconds")


def main() -> int:
    """Train what is not trained yet, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR")
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE.csv")
    parser.add_argument("--docs", type=Path, default=HERE.parent / "docs", metavar="DIR")
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="for all runs")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    from activsparse.train.run.interrupt import Interrupted

    try:
        rows = [{"network": row, **_figures(row, args.runs, args.set)} for row in ROWS]
    except ActivsparseError as error:
        print(error, file=sys.stderr)
        return 2
    except Interrupted:
        print("stopped; the same command continues", file=sys.stderr)
        return 130
    with atomic_path(args.results) as path, path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["network", *COLUMNS], lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    fashion_scenes_plot.write(rows, args.runs, args.docs)
    return 0


def _figures(row: str, runs: Path, changes: list[str]) -> dict[str, Any]:
    """Of a finished run; it is trained first, or trained on, where it is not."""
    from activsparse.train.recipes.read import load_config
    from activsparse.train.trainer import resume, train

    folder = runs / f"fashion_scenes_{row}"
    start = [] if row == "dense" else [f"init_from={runs / 'fashion_scenes_dense'}"]
    config = load_config(f"fashion_scenes_{row}", [*start, *changes])
    started = (folder / "config.yaml").is_file()
    summary = resume(folder, config) if started else train(config, folder)
    return {name: round(summary[name], 4) for name in COLUMNS}


if __name__ == "__main__":
    sys.exit(main())
