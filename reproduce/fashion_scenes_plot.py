"""The detector study's table, chart and pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from study import fill_in

from activsparse.detect.boxes import Detections, detections
from activsparse.detect.draw import draw
from activsparse.detect.sample import letterboxed
from activsparse.detect.scenes import Scenes
from activsparse.files import atomic_path
from activsparse.train import load_run

WORDS = {
    "dense": "dense, {} epochs",
    "tuned": "dense, {} epochs more",
    "best": "ours, {} epochs more",
    "paper": "as published, {} epochs more",
}
CLASSES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "boot"),
)
SHOWN = ("dense", "best")
PICTURES, SIDE, GAP = 3, 256, 8


def write(rows: Sequence[Mapping[str, Any]], runs: Path, docs: Path) -> None:
    """Fill in the table of detection.md (in an empty folder: write it), and draw what it shows.

    Args:
        rows: of the study's CSV file.
        runs: folder of the trained networks.
        docs: folder of the page and the pictures.
    """
    fill_in(docs / "detection.md", "scenes", _table(rows))
    _chart(rows, docs / "fashion_scenes.png")
    _pictures(runs, docs / "detections.png")


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    lines = [
        "| network | multiply-adds | mAP50 | against as much dense training | mAP |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    tuned = next(float(row["map50"]) for row in rows if row["network"] == "tuned")
    for row in rows:
        name = row["network"]
        lost = f"{100 * (float(row['map50']) - tuned):+.1f}" if name in ("best", "paper") else ""
        lines.append(
            f"| {_words(row)} (`fashion_scenes_{name}`) | {float(row['kept_macs']):.2f} "
            f"| {100 * float(row['map50']):.1f} | {lost} | {100 * float(row['map']):.1f} |"
        )
    return "\n".join(lines) + "\n"


def _words(row: Mapping[str, Any]) -> str:
    return WORDS[row["network"]].format(int(row["epochs"]))


def _chart(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    figure = Figure(figsize=(6.4, 2.4), layout="constrained")
    panel = figure.subplots()
    names = [_words(row) for row in rows]
    for shift, key, label, colour in (
        (-0.2, "map50", "mAP50", "#2f9e8f"),
        (0.2, "map", "mAP", "#8a94a6"),
    ):
        places = [i + shift for i in range(len(rows))]
        values = [100 * float(row[key]) for row in rows]
        bars = panel.barh(places, values, 0.38, color=colour, label=label)
        panel.bar_label(bars, fmt="%.1f", padding=2, fontsize=8)
    panel.set_yticks(range(len(rows)), names, fontsize=8)
    panel.invert_yaxis()
    panel.set_xlim(0, 100)
    panel.legend(fontsize=8, frameon=False, loc="lower right")
    panel.spines[["top", "right"]].set_visible(False)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _pictures(runs: Path, path: Path) -> None:
    """Test pictures in columns, networks in rows."""
    sheet = Image.new(
        "RGB", (PICTURES * (SIDE + GAP) - GAP, len(SHOWN) * (SIDE + GAP) - GAP), "white"
    )
    for row, name in enumerate(SHOWN):
        run = load_run(runs / f"fashion_scenes_{name}")
        options = run.config.data
        scenes = Scenes(PICTURES, "test", 0, options.root, options.options.get("source"))
        size = tuple(run.example_input.shape[2:])
        for column in range(PICTURES):
            fitted, letterbox = letterboxed(scenes[column], size)
            with torch.no_grad():
                found = detections(run.model(fitted.image[None].float() / 255)[0], 0.4)
            boxes = letterbox.back(found.boxes).clamp(min=0)
            picture = Image.fromarray(scenes[column].image.permute(1, 2, 0).numpy())
            drawn = draw(picture, Detections(boxes, found.scores, found.labels), CLASSES)
            drawn.thumbnail((SIDE, SIDE))
            sheet.paste(drawn, (column * (SIDE + GAP), row * (SIDE + GAP)))
    with atomic_path(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)
