"""One network, one request: every command shows the same sparsity, and the same saved share."""

from __future__ import annotations

import csv
import json
import re

import numpy as np
import onnx
import pytest
import torch

from activsparse.cli import main
from activsparse.export.convs import find_convs
from activsparse.export.onnx import export_onnx
from activsparse.export.read import read_masks
from activsparse.models import SmallResNet

TRAIN = (
    *("--recipe", "digits_tiles", "--no-check-export", "--set", "dense=null", "data.limit=48"),
    *("training.epochs=1", "training.warmup=0", "distillation=null"),
    *("model.options={'widths': [8, 16], 'blocks': [1, 1]}", "sparsity.pattern=lattice"),
)


def by_definition(file) -> tuple[float, float]:
    """Sparsity and saved share, multiply-adds counted one convolution at a time."""
    masks, skipped, masked, whole = read_masks(file), 0.0, 0.0, 0.0
    for conv in find_convs(onnx.load(file)):
        shape = conv.shape
        height, width = shape.output
        kernel = shape.kernel[0] * shape.kernel[1]
        macs = height * width * kernel * shape.in_channels // shape.group * shape.out_channels
        whole += macs
        if conv.name in masks:
            masked += macs
            skipped += macs * np.count_nonzero(~masks[conv.name]) / (height * width)
    return skipped / masked, skipped / whole


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("one")


@pytest.fixture
def say(place, monkeypatch, capsys):
    """Run a command in the folder; returns what it printed, in one line."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*words: str) -> str:
        capsys.readouterr()
        assert main(list(words)) == 0, capsys.readouterr().err
        return " ".join(capsys.readouterr().out.split())

    return run


def test_commands_agree_about_a_trained_network(say, place):
    shown = say("train", *TRAIN, "--out", "run")
    summary = json.loads((place / "run" / "summary.json").read_text())
    exported = say("export", "run", "--out", "t.onnx", "--dense", "d.onnx")
    sparsity, saved = by_definition(place / "t.onnx")
    assert summary["requested"] == 0.3
    assert sparsity != pytest.approx(0.3, abs=1e-4)  # the pattern rounds it: words must say which
    assert summary["achieved"] == pytest.approx(sparsity, abs=1e-9)
    assert 1 - summary["kept_macs"] == pytest.approx(saved, abs=1e-9)
    assert re.search(rf"│ {100 * sparsity:.1f} % │ {100 * saved:.1f} % │", shown)
    assert "sparsity: share of the masked layers' output positions" in shown
    (row,) = csv.DictReader((place / "run" / "metrics.csv").open())
    assert float(row["sparsity"]) == pytest.approx(sparsity, abs=1e-5)
    both = f"sparsity {sparsity:.3f} (share of the masked layers' output positions"
    for text in (exported, say("explain", "t.onnx", "--repeat", "1", "--json", "e.json")):
        assert both in text
        assert f"multiply-adds saved: {saved:.3f} of all convolutions'" in text
    total = json.loads((place / "e.json").read_text())["total"]
    assert (total["sparsity"], total["saved"]) == pytest.approx((sparsity, saved), abs=1e-6)
    found = say("info", "t.onnx")
    assert f"sparsity {sparsity:.3f}, share of the masked" in found
    assert f"saved {saved:.3f}, share of all convolutions'" in found


@pytest.mark.parametrize(
    ("pattern", "fill"),
    [("tiles", "zero"), ("lattice", "nearest"), ("random", "zero"), ("auto", "auto")],
)
def test_mask_and_info_agree(say, place, pattern, fill):
    torch.manual_seed(0)
    model = SmallResNet(3, 1, widths=(8, 16), blocks=(1, 1)).eval()
    export_onnx(model, torch.zeros(1, 1, 20, 24), place / "dense.onnx")
    words = ("--sparsity", "0.3", "--pattern", pattern, "--fill", fill, "--out", "m.onnx")
    masked = say("mask", "dense.onnx", *words)
    sparsity, saved = by_definition(place / "m.onnx")
    assert f"masked layers, sparsity {sparsity:.3f} (share of" in masked
    assert f"multiply-adds saved: {saved:.3f} of all convolutions'" in masked
    found = say("info", "m.onnx")
    assert f"sparsity {sparsity:.3f}, share of" in found
    assert f"saved {saved:.3f}, share of" in found


def test_what_sparsify_previews(say, place):
    torch.manual_seed(0)
    model = SmallResNet(3, 1, widths=(8, 16), blocks=(1, 1)).eval()
    export_onnx(model, torch.zeros(1, 1, 20, 24), place / "dense.onnx")
    say("mask", "dense.onnx", "--sparsity", "0.3", "--out", "m.onnx")
    sparsity, saved = by_definition(place / "m.onnx")
    shown = say("sparsify", "dense.onnx", "--engines", "onnxruntime")
    assert f"masked 0.3 activsparse {100 * sparsity:.1f} % {100 * saved:.1f} %" in shown
