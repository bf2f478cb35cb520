"""The detector study's script, on a handful of small pictures."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import pytest
from PIL import Image

SMALL = [
    "threads=1", "training.epochs=1", "training.precision=32-true", "data.image_size=64",
    "data.batch_size=4",
    "data.options={pictures: 8, test_pictures: 2, source: digits}",
]  # fmt: skip


@pytest.mark.slow
def test_the_study_trains_once_and_writes_its_table(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "reproduce"))
    import fashion_scenes

    page = tmp_path / "detection.md"
    page.write_text("Before.\n<!-- scenes:begin -->\nold\n<!-- scenes:end -->\nAfter.\n")
    places = ["--results", str(tmp_path / "t.csv"), "--docs", str(tmp_path)]
    command = ["x", "--runs", str(tmp_path), *places, "--set", *SMALL]
    monkeypatch.setattr(sys, "argv", command)
    assert fashion_scenes.main() == 0
    rows = {row["network"]: row for row in csv.DictReader((tmp_path / "t.csv").open())}
    assert list(rows) == ["dense", "tuned", "best", "paper"]
    assert 0.1 < float(rows["paper"]["achieved"]) < 0.3
    for name in ("best", "paper"):
        assert 0.8 < float(rows[name]["kept_macs"]) < 0.95
    assert page.read_text().startswith("Before.\n<!-- scenes:begin -->\n| network")
    assert page.read_text().endswith("<!-- scenes:end -->\nAfter.\n")
    assert "old" not in page.read_text()
    for name, size in (("detections.png", (784, 520)), ("fashion_scenes.png", (768, 288))):
        assert Image.open(tmp_path / name).size == size
    text = (tmp_path / "t.csv").read_text()
    assert fashion_scenes.main() == 0
    assert (tmp_path / "t.csv").read_text() == text
