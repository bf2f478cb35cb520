"""`activsparse sparsify` of a detector, from pictures with boxes to a model card."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import trees

import activsparse
from activsparse import cli
from activsparse.detect.sample import Sample
from activsparse.export.read import read_masks
from activsparse.pipeline.score import read_score

COMMAND = (
    *("sparsify", "yolov5n", "--data", "pictures", "--target-speedup", "1.1", "--out", "out"),
    *(
        "--quick",
        "--int8",
        "--input-size",
        "64x64",
        "--batch-size",
        "8",
        "--engines",
        "onnxruntime",
    ),
    *("--set", "threads=1", "training.epochs=1", "dense.epochs=1"),
    "sparsity.skip=[stage*,up*,down*]",
)


def pictures(count: int) -> list[Sample]:
    """Bright squares on dark ground."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(count):
        image = torch.from_numpy(rng.integers(0, 40, (3, 48, 64), dtype=np.uint8))
        x, y = (int(v) for v in rng.integers(0, 20, 2))
        label = int(rng.integers(0, 2))
        image[label, y : y + 24, x : x + 24] = 230
        box = torch.tensor([[x, y, x + 24, y + 24]]).float()
        made.append(Sample(image, box, torch.tensor([label])))
    return made


@pytest.mark.slow
def test_it_ends_with_files_a_table_and_a_card(place, estimated, capsys):
    pytest.importorskip("pycocotools")
    (place / "pictures").mkdir()
    trees.write_yolo(place / "pictures", pictures(24), ("red", "green"))
    assert cli.main(COMMAND) == 0
    shown, out = capsys.readouterr().out, place / "out"
    assert "mAP50" in shown
    sentence = next(line for line in shown.splitlines() if "times as fast as your dense" in line)
    assert re.search(r"points of mAP50 \w+ on 24 held-out images \(paired 95 % interval", sentence)
    assert len(re.findall("points of mAP50", shown)) == 2
    assert read_masks(out / "masked.onnx")
    assert sentence in (out / "README.md").read_text()
    assert sentence.split(",")[0] in (out / "report.html").read_text()
    assert (out / "classes.txt").read_text().split() == ["red", "green"]

    # The figure is that of torch's metric in the run's summary.
    score = read_score(out / "predictions.npz")
    for name in ("dense", "masked"):
        summary = json.loads((out / name / "summary.json").read_text())
        assert score.value(name) == pytest.approx(summary["map50"], abs=2e-3)

    card = (out / "README.md").read_text()
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", card, re.MULTILINE | re.DOTALL))
    environment = {**os.environ, "PYTHONPATH": str(Path(activsparse.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("(1, ")
    assert cli.main(COMMAND) == 0
