"""From images to a faster network, in five commands and a report.

    python examples/demo.py                          # handwritten digits, some minutes
    python examples/demo.py --data fashion_mnist     # 70,000 images, longer

Trains a small residual network dense, then goes on with it in three ways, equally long: dense, at
sparsity 0.3 by the published procedure (the data set's recipe `*_paper`), and at 0.3 with masks
shaped for the engine (`*_tiles`). So what differs is what masks cost. All three are exported,
checked, timed on every engine that is installed, and set side by side in a table and in an HTML
report.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from activsparse import Session
from activsparse.bench.compare import Comparison, Row
from activsparse.bench.engines import ENGINES, is_installed
from activsparse.bench.machine import summary_line
from activsparse.cli import main as activsparse
from activsparse.data import build_data
from activsparse.engine.report import savings_of
from activsparse.export.read import read_masks
from activsparse.masks.mean import SAVED_IS, SPARSITY_IS
from activsparse.report import Report, Variant, layers_of, write
from activsparse.train.recipes.read import load_config

SPARSITY = 0.3
SAMPLES = 6
NEXT = """
Where to go next, after `. .venv/bin/activate`:
  activsparse sparsify resnet18 --weights default --data FOLDER --target-speedup 1.5 --out DIR
                                      the same with your images, in one command: docs/tutorial.md
  activsparse sparsify model.onnx     what masks would gain on a network you have
  examples/solar_cells.sh             real photographs and ImageNet weights, both from pip"""
console = Console()


def command(*words: str | Path) -> None:
    """Run one `activsparse` command in this process, showing it as one would type it."""
    line = [str(word) for word in words]
    console.print()
    console.print(f"$ activsparse {shlex.join(line)}", style="bold", markup=False, soft_wrap=True)
    status = activsparse(line)
    if status != 0:
        sys.exit(status)


def train(name: str, recipe: str, out: Path, *settings: str) -> Path:
    """Train one network, over an earlier run of the same name; returns its run folder."""
    run = out / name
    if (run / "config.yaml").exists():
        shutil.rmtree(run)
    command("train", "--recipe", recipe, "--set", *settings, "--out", run)
    return run


def export(run: Path) -> Path:
    """Export a run to ONNX and check the file in our engine; returns the file."""
    model = run.with_suffix(".onnx")
    command("export", run, "--out", model)
    command("verify", model)
    return model


def top1(model: Path, images: np.ndarray, labels: np.ndarray) -> float:
    """Share of the test images (N, C, H, W) that the exported file gets right in our engine."""
    session = Session(model, threads=1)
    scores = np.concatenate([session.run(image[None]) for image in images])
    return float(np.mean(scores.argmax(axis=1) == labels))


def test_set(recipe: str) -> tuple[np.ndarray, np.ndarray]:
    """Normalised test images (N, C, H, W) float32 of a recipe and their labels (N,)."""
    data = load_config(recipe).data
    batches = list(build_data(data.name, data.root, data.image_size).test_dataloader())
    images = np.concatenate([x.numpy() for x, _ in batches])
    return images, np.concatenate([y.numpy() for _, y in batches])


def sample_pictures(images: np.ndarray) -> list[np.ndarray]:
    """The first test images as grey (H, W) in [0, 1]."""
    grey = images[:SAMPLES].mean(axis=1)
    low, high = grey.min(axis=(1, 2), keepdims=True), grey.max(axis=(1, 2), keepdims=True)
    return list((grey - low) / (high - low))


def rows_of(report: Report) -> list[list[str]]:
    """The summary, one line per network."""
    ratios = {ratio["model"]: ratio for ratio in report.comparison.ratios}
    return [
        [
            variant.name,
            f"{variant.top1:.2%}",
            f"{variant.savings.sparsity:.0%}" if variant.layers else "–",
            f"{variant.savings.saved:.0%}" if variant.layers else "–",
            f"{report.own_row(variant).median_ms:.3f} ± {report.own_row(variant).mad_ms:.3f}",
            f"{ratios[variant.model]['vs_own_dense']:.2f}",
            f"{ratios[variant.model]['vs_best_dense']:.2f}",
        ]
        for variant in report.variants
    ]


def headings(report: Report) -> list[str]:
    """Of the columns of `rows_of`."""
    best = report.comparison.best_dense
    return ["network", "top-1", "sparsity", "saved", "median ms", "x own", f"x {best['engine']}"]


def legend(report: Report) -> str:
    """What the columns mean."""
    best = report.comparison.best_dense
    return (
        f"sparsity: {SPARSITY_IS}; saved: {SAVED_IS}; x own, x "
        f"{best['engine']}: times as fast as the dense network in our engine, and in the fastest "
        f"other one ({best['engine']} {best['version']}, {best['median_ms']:.3f} ms); all were "
        f"trained for {report.settings['epochs']}"
    )


def print_summary(report: Report) -> None:
    """Print the summary as a table."""
    table = Table(title=summary_line(report.comparison.machine), caption=legend(report), box=SIMPLE)
    for index, heading in enumerate(headings(report)):
        table.add_column(heading, justify="right" if index else "left", no_wrap=True)
    for row in rows_of(report):
        table.add_row(*row)
    console.print(table)


def put_into_readme(report: Report, readme: Path) -> None:
    """Replace what stands between the demo's two markers by the summary, as Markdown."""
    head, begin, rest = readme.read_text().partition("<!-- demo:begin -->\n")
    _, end, tail = rest.partition("<!-- demo:end -->")
    lines = [headings(report), ["---"] * len(headings(report)), *rows_of(report)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    machine = summary_line(report.comparison.machine)
    note = f"{report.title}, batch 1, one thread, on {machine}"
    readme.write_text(f"{head}{begin}{note}:\n\n{table}\n\n({legend(report)})\n{end}{tail}")


def main() -> None:
    """Train, export, verify, time and report."""
    parser = argparse.ArgumentParser(description="From images to a faster network.")
    parser.add_argument("--data", default="digits", choices=("digits", "fashion_mnist"))
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="folder for all results")
    parser.add_argument("--epochs", type=int, help="of each training (default: the recipe's)")
    parser.add_argument("--repeat", type=int, default=200, help="timed runs per model and engine")
    parser.add_argument("--readme", type=Path, help="put the summary into this file")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)

    # All three networks start from the same dense one and are then trained for equally long.
    recipe = f"{args.data}_tiles"
    phase = load_config(recipe).dense
    first = args.epochs or phase.epochs
    then = args.epochs or load_config(recipe).training.epochs
    base = train(
        *("base", recipe, args.out, "sparsity=null", "dense=null", f"training.lr={phase.lr}"),
        f"training.epochs={first}",
    )
    start = [f"init_from={base}", f"training.epochs={then}"]
    dense = export(train("dense", recipe, args.out, *start, "sparsity=null"))
    sparse = {
        name: export(
            train(name, f"{args.data}_{name}", args.out, *start, f"sparsity.sparsity={SPARSITY}")
        )
        for name in ("paper", "tiles")
    }

    engines = [name for name, source in ENGINES.items() if source.reads_onnx and is_installed(name)]
    timings = args.out / "bench.json"
    command(
        *("bench", "--dense", dense, "--sparse", *sparse.values()),
        *("--engines", ",".join(engines), "--repeat", str(args.repeat), "--json", timings),
    )
    found = json.loads(timings.read_text())
    found["rows"] = [Row(**row) for row in found["rows"]]

    images, labels = test_set(recipe)
    profiles = [
        (name, model, Session(model, threads=1).profile()) for name, model in sparse.items()
    ]
    report = Report(
        title=f"A small residual network on {args.data}",
        summary=f"Dense, and with {SPARSITY:.0%} of the output positions of its masked layers left "
        "out: by the published procedure, and with masks shaped for the engine.",
        variants=[
            Variant("dense", str(dense), top1(dense, images, labels)),
            *(
                Variant(
                    f"{name} {SPARSITY}",
                    str(model),
                    top1(model, images, labels),
                    SPARSITY,
                    layers_of(nodes),
                    read_masks(model),
                    savings=savings_of(nodes),
                )
                for name, model, nodes in profiles
            ),
        ],
        comparison=Comparison(**found),
        images=sample_pictures(images),
        settings={
            "epochs": f"{first} epochs as one dense network and {then} more each",
            "images": f"{args.data}, {len(labels)} test images of {images.shape[2:]} pixels",
            "timing": f"{args.repeat} interleaved runs per model and engine, batch 1, one thread",
            "command": shlex.join(["python", *sys.argv]),
        },
    )
    write(report, args.out / "report.html")
    print_summary(report)
    console.print(f"report: {args.out / 'report.html'}")
    console.print(NEXT, markup=False, highlight=False, soft_wrap=True)
    if args.readme:
        put_into_readme(report, args.readme)


if __name__ == "__main__":
    main()
