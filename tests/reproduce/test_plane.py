"""The planes' script: every row is a recipe, rows are trained alike, timed and reported."""

from __future__ import annotations

import csv
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from activsparse.data import registry
from activsparse.data.images import Images
from activsparse.train.recipes.read import load_config

FOLDER = Path(__file__).parents[2] / "reproduce"


@pytest.fixture
def plane(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import plane

    def few(root, size):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (300, 1, *size), generator=generator, dtype=torch.uint8)
        part = TensorDataset(images, torch.arange(300) % 10)
        return Images(part, part, 10, 1, (0.286,), (0.353,), flip=True, small=True)

    monkeypatch.setitem(registry._SOURCES, "fashion_mnist", few)
    return plane


def test_every_row_is_a_recipe(plane):
    for network in plane.NETWORKS.values():
        common, of_base = network.settings(Path("data"), 2)
        base = load_config(network.recipe, [*common, *of_base])
        assert base.sparsity is None
        rows = plane.rows_of(network)
        assert {"dense", "ours", "smaller_input", "channels", "paper"} <= {
            row.kind for row in rows.values()
        }
        for row in rows.values():
            config = load_config(network.recipe, [*common, *row.changes])
            assert config.model == base.model
            kinds = ("ours", "channels_and_masks", *(["ablation"] if row.times > 1 else []))
            assert row.plan is None or row.kind in kinds


@pytest.mark.slow
def test_rows_are_trained_timed_and_reported(plane, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plane, "REPEAT", 3)
    small = replace(
        plane.NETWORKS["R"],
        images=16,
        common=(
            *plane.NETWORKS["R"].common[:-1],
            "model.options={channels: [16, 16, 16, 16], stem_width: 16}",
            "training.precision=32-true",
        ),
        base=("dense=null", "sparsity=null", "training.epochs=1"),
    )
    monkeypatch.setitem(plane.NETWORKS, "R", small)
    command = ["plane", "R", "--out", str(tmp_path / "runs"), "--results", str(tmp_path)]
    rows = ["dense", "plan 1.2", "input 40", "channels 0.3"]
    for more in (["--rows", *rows], ["--time"]):
        monkeypatch.setattr(sys, "argv", [*command, "--seeds", "0", *more])
        assert plane.main() == 0, capsys.readouterr()
    with (tmp_path / "plane.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert sorted(line["row"] for line in lines) == sorted(rows)
    for key in ("ms", "ort_ms", "half_ms", "dense_ms", "dense_ort_ms"):
        assert all(float(line[key]) > 0 for line in lines), key
    # Timed once more, a row's line takes the place of the one before; all others stay.
    other = {**lines[0], "row": "input 56"}
    with (tmp_path / "plane.csv").open("a", newline="") as file:
        csv.DictWriter(file, list(other), lineterminator="\n").writerow(other)
    monkeypatch.setattr(sys, "argv", [*command, "--seeds", "0", "--time"])
    assert plane.main() == 0, capsys.readouterr()
    with (tmp_path / "plane.csv").open() as file:
        again = list(csv.DictReader(file))
    assert again[0] == other
    assert sorted(line["row"] for line in again[1:]) == sorted(rows)
    monkeypatch.setattr("plane_plot.DOCS", tmp_path)
    page = "<!-- plane R:begin -->\nold\n<!-- plane R:end -->\n"
    (tmp_path / "evidence.md").write_text(page)
    monkeypatch.setattr(sys, "argv", [*command, "--plot"])
    assert plane.main() == 0
    text = (tmp_path / "evidence.md").read_text()
    assert "old" not in text
    assert "| plan 1.2 | masks, planned |" in text
    assert "| row, weights in float16 |" in text
    assert (tmp_path / "plane-R.png").stat().st_size > 5000
