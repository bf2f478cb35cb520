"""The study's script, on a handful of random images in place of Fashion-MNIST."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import TensorDataset

from activsparse.data import registry
from activsparse.data.images import Images
from activsparse.train.recipes.read import load_config

FOLDER = Path(__file__).parents[2] / "reproduce"


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(str(FOLDER))
    import fashion_mnist

    def few(root, size):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (300, 1, *size), generator=generator, dtype=torch.uint8)
        labels = torch.arange(300) % 10
        part = TensorDataset(images, labels)
        return Images(part, part, 10, 1, (0.286,), (0.353,), flip=True, small=True)

    monkeypatch.setitem(registry._SOURCES, "fashion_mnist", few)
    monkeypatch.setattr(fashion_mnist, "EPOCHS", 1)
    monkeypatch.setattr(fashion_mnist, "BASE", ("dense=null", "sparsity=null", "training.epochs=1"))
    return fashion_mnist


def test_every_row_is_a_recipe(study):
    for row in study.ROWS.values():
        config = load_config(row.recipe, [*study.COMMON, *row.changes])
        assert config.data.name == "fashion_mnist"
    assert all(name in study.ROWS for names in _plot(study).BARS.values() for name in names)
    assert {name.split()[0].rstrip(",") for name in study.ROWS} <= set(_plot(study).FAMILIES)


@pytest.mark.slow
def test_rows_are_trained_once_and_reported(study, tmp_path, monkeypatch, capsys):
    rows = ["input 20", "channels 0.16, best 0.3", "dense", "best 0.5, not distilled"]
    command = ["study", "--out", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", [*command, "--seeds", "0", "--rows", *rows])
    assert study.main() == 0
    result = (tmp_path / "results" / "fashion_mnist.csv").read_text()
    found = {row["row"]: row for row in csv.DictReader(result.splitlines())}
    assert list(found) == ["base", "dense", "input 20", *rows[1:2], rows[3]]
    assert float(found["dense"]["macs"]) == 1
    assert float(found["input 20"]["macs"]) == pytest.approx((20 / 28) ** 2, abs=0.01)
    assert float(found["channels 0.16, best 0.3"]["macs"]) == pytest.approx(0.7**2, abs=0.05)

    written = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.ckpt")}
    assert study.main() == 0
    assert written == {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*.ckpt")}

    page = tmp_path / "search.md"
    page.write_text("before\n<!-- study:begin -->\nold\n<!-- study:end -->\nafter\n")
    monkeypatch.setattr(_plot(study), "DOCS", tmp_path)
    monkeypatch.setattr(sys, "argv", [*command, "--plot"])
    assert study.main() == 0
    text = page.read_text()
    assert text.startswith("before\n<!-- study:begin -->\n| row |")
    assert "old" not in text
    assert text.endswith("<!-- study:end -->\nafter\n")
    assert "at 0.5: not all rows" in capsys.readouterr().out.replace("At", "at")
    assert (tmp_path / "fashion_mnist.png").read_bytes()[:4] == b"\x89PNG"


def test_a_run_another_process_is_at_is_left_to_it(study, tmp_path, monkeypatch):
    command = ["study", "--out", str(tmp_path / "runs"), "--results", str(tmp_path / "results")]
    monkeypatch.setattr(sys, "argv", [*command, "--seeds", "0", "--rows", "dense"])
    run = study.run_folder(tmp_path / "runs", "dense", 0)
    with study.claimed(run) as mine:
        assert mine
        assert study.main() == 0
        assert not run.exists()
    assert study.main() == 0
    assert (run / "summary.json").is_file()


def _plot(study):
    import fashion_mnist_plot

    return fashion_mnist_plot
