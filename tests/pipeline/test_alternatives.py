"""What masks are compared with: a smaller input as fast as they are, and longer training."""

from __future__ import annotations

import json
import random
import re

import numpy as np
import pytest
import torch

from activsparse import cli
from activsparse.data import build_data
from activsparse.pipeline.alternatives import nearest_size, sizes
from activsparse.pipeline.score import paired_interval, read_score
from activsparse.train import load_run

COMMAND = (
    *("sparsify", "own:tiny", "--data", "images", "--target-speedup", "1.1", "--out", "out"),
    *("--quick", "--input-size", "16x16", "--batch-size", "8", "--engines", "onnxruntime"),
    *("--set", "threads=1"),
)
ALTERNATIVES = ("--alternatives", "dense-longer,smaller-input")


def test_sizes_keep_the_proportions_and_the_step():
    rng = random.Random(0)
    for _ in range(200):
        step = rng.choice([1, 2, 8, 32])
        whole = (rng.randrange(2 * step, 40 * step), rng.randrange(2 * step, 40 * step))
        tried = sizes(whole, step)
        assert tried, (whole, step)
        assert tried == sorted(tried, reverse=True), (whole, step)
        for size in tried:
            assert min(size) < min(whole), (whole, step, size)
            assert not any(side % step for side in size), (whole, step, size)
            shares = [side / own for side, own in zip(size, whole, strict=True)]
            assert abs(shares[0] - shares[1]) <= step / min(whole), (whole, step, size)


def test_the_nearest_size_is_found_with_few_measurements():
    rng = random.Random(1)
    for _ in range(200):
        tried = sizes((rng.randrange(16, 300),) * 2, rng.choice([1, 8]))
        speeds = np.cumprod([1 + rng.random() / 5 for _ in tried]).tolist()
        target, asked = 1 + 3 * rng.random(), []

        def measure(size, tried=tried, speeds=speeds, asked=asked):
            asked.append(size)
            return speeds[tried.index(size)]

        found = speeds[tried.index(nearest_size(tried, target, measure))]
        best = min(speeds, key=lambda speed: max(speed / target, target / speed))
        assert found == best, (tried[0], target)
        assert len(asked) <= 2 + np.log2(len(tried) + 1), (tried[0], target)


def test_a_network_of_one_size_is_refused_before_training(place, estimated, capsys):
    command = ["own:picky" if word == "own:tiny" else word for word in COMMAND]
    command[command.index("16x16")] = "32x32"
    assert cli.main([*command, "sparsity.skip_stem=false", *ALTERNATIVES]) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"own:picky: takes no images of 31x31 pixels \(.*\); leave", said), said
    assert "smaller-input out of --alternatives" in said
    assert not (place / "out").exists()


@pytest.mark.slow
def test_they_are_trained_alike_and_told_beside(place, estimated, monkeypatch, capsys):
    monkeypatch.setattr(
        "activsparse.pipeline.alternatives.size_speedup",
        lambda large, small, **how: 16 / int(small.stem.split("x")[0]),
    )
    command = [*COMMAND, *ALTERNATIVES]
    assert cli.main(command) == 0
    out, shown = place / "out", capsys.readouterr().out
    assert re.search(r"^ *input 1[0-5]x1[0-5] +activsparse ", shown, re.MULTILINE), shown
    assert re.search(r"^ *dense longer +activsparse ", shown, re.MULTILINE), shown
    (sentence,) = (x for x in shown.splitlines() if x.startswith("The dense network with a sm"))
    assert sentence in (out / "README.md").read_text()
    assert "the dense one, trained on alike, has" in shown

    # They differ from the masked one in masks and image size alone.
    runs = {n: load_run(out / n, trust=True) for n in ("masked", "smaller.input", "dense.longer")}
    masked = runs["masked"].config.model_dump(mode="json")
    for name in ("smaller.input", "dense.longer"):
        own = runs[name].config.model_dump(mode="json")
        differ = {key for key in own if own[key] != masked[key]}
        assert differ <= {"sparsity", "data", "distillation"}, (name, differ)
        assert own["sparsity"] is None
        assert own["distillation"]["weight"] == masked["distillation"]["weight"]
        summaries = [json.loads((out / n / "summary.json").read_text()) for n in ("masked", name)]
        assert summaries[0]["epochs"] == summaries[1]["epochs"]
    assert runs["smaller.input"].config.distillation.image_size == (16, 16)

    # Each is asked images of its own size, and the right ones.
    score = read_score(out / "predictions.npz")
    assert score.networks == ["dense", "masked", "smaller input", "dense longer"]
    for name in ("smaller input", "dense longer"):
        run = runs[name.replace(" ", ".")]
        images, labels = next(iter(build_data(**run.config.data.model_dump()).test_dataloader()))
        with torch.no_grad():
            said = run.model(images).argmax(dim=1).numpy()
        np.testing.assert_array_equal(score.said[name], said)
        np.testing.assert_array_equal(score.labels, labels.numpy())
    lost = score.interval("masked", "smaller input")
    right = {n: score.said[n] == score.labels for n in score.networks}
    assert lost == paired_interval(right["smaller input"], right["masked"])
    low, high = (f"{100 * abs(end) + 0:.1f}" for end in lost)
    assert low in sentence
    assert high in sentence

    # Once more, nothing is trained; without them it is another question.
    before = (out / "smaller.input.onnx").read_bytes()
    assert cli.main(command) == 0
    assert (out / "smaller.input.onnx").read_bytes() == before
    assert cli.main(COMMAND) == 2
    assert "was begun with smaller input dense longer as --alternatives" in capsys.readouterr().err
