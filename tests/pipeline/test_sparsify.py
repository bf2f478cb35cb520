"""`activsparse sparsify` from images to a model card, stopped anywhere."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

import activsparse
from activsparse import Session, cli
from activsparse.data import build_data
from activsparse.export.read import read_masks
from activsparse.masks.mask_plan_file import read_mask_plan
from activsparse.models import build_model
from activsparse.pipeline import stages
from activsparse.pipeline.score import read_score
from activsparse.train import load_run
from activsparse.train.run import interrupt

COMMAND = (
    *("sparsify", "own:tiny", "--data", "images", "--target-speedup", "1.1", "--out", "out"),
    *("--quick", "--input-size", "16x16", "--batch-size", "8", "--engines", "onnxruntime"),
    *("--set", "threads=1"),
)
OPTIONAL = ("masked.int8.onnx", "smaller.input.onnx", "dense.longer.onnx")
RESULTS = [stage.result for stage in stages.STAGES if stage.result not in OPTIONAL]


def digests(folder: Path, names: list[str]) -> dict[str, str]:
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def test_a_target_out_of_reach_is_told_before_training(place, estimated, monkeypatch, capsys):
    def train(*args, **more):
        raise AssertionError("trained")

    monkeypatch.setattr("activsparse.pipeline.dense.train", train)
    command = [*COMMAND[:5], "50", *COMMAND[6:]]
    assert cli.main(command) == 2
    said = capsys.readouterr().err.splitlines()[-1]
    assert re.search(r"--target-speedup 50.0: the fastest masks here reach \d\.\d\d", said), said
    assert not (place / "out").exists()


@pytest.mark.slow
def test_it_ends_with_files_a_table_and_a_card(place, estimated, capsys):
    assert cli.main(COMMAND) == 0
    shown = capsys.readouterr().out
    sentence = next(line for line in shown.splitlines() if "times as fast as your dense" in line)
    assert re.search(r"on 12 held-out images \(paired 95 % interval", sentence)
    out = place / "out"

    # The masks that run are those of the plan, in every file.
    plan, masked = read_mask_plan(out / "plan.yaml"), read_masks(out / "masked.onnx")
    assert plan.masks().keys() == masked.keys()
    for name, mask in plan.masks().items():
        np.testing.assert_array_equal(masked[name], mask, err_msg=name)
    assert not read_masks(out / "dense.onnx")

    # Predictions are those of torch on the very images.
    score = read_score(out / "predictions.npz")
    for name, said in score.said.items():
        run = load_run(out / name, trust=True)
        images = next(iter(build_data(**run.config.data.model_dump()).test_dataloader()))[0]
        np.testing.assert_array_equal(run.model(images).argmax(dim=1).numpy(), said)

    # The card's snippets run, and its table is the one that is shown.
    card = (out / "README.md").read_text()
    assert sentence in card
    assert "own:tiny --data images --target-speedup 1.1" in card
    assert (out / "classes.txt").read_text().split() == ["bars", "noise", "rows"]
    code = "\n".join(re.findall(r"^```python\n(.*?)^```", card, re.MULTILINE | re.DOTALL))
    environment = {**os.environ, "PYTHONPATH": str(Path(activsparse.__file__).parents[1])}
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, cwd=out, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) in (0, 1, 2)
    assert sentence.split(",")[0] in (out / "report.html").read_text()

    # Once more, nothing is made anew.
    before = digests(out, RESULTS)
    assert cli.main(COMMAND) == 0
    assert digests(out, RESULTS) == before


@pytest.mark.slow
def test_int8_comes_with_its_own_rows_and_sentence(place, estimated, capsys):
    assert cli.main((*COMMAND, "--int8")) == 0
    out, shown = place / "out", capsys.readouterr().out
    for name in ("dense", "masked"):
        assert re.search(rf"^ *{name} int8 +activsparse ", shown, re.MULTILINE), shown
        assert re.search(rf"^ *{name} int8 +ONNX Runtime ", shown, re.MULTILINE), shown
    sentence = next(line for line in shown.splitlines() if line.startswith("In int8: "))
    assert "times as fast as your dense network in int8 here" in sentence
    assert sentence in (out / "README.md").read_text()
    assert sentence.split(",")[0] in (out / "report.html").read_text()
    masks = read_masks(out / "masked.onnx")
    quantised = read_masks(out / "masked.int8.onnx")
    assert quantised.keys() == masks.keys()
    for name, mask in masks.items():
        np.testing.assert_array_equal(quantised[name], mask, err_msg=name)
    assert set(json.loads((out / "verify.json").read_text())) == {
        *("dense.onnx", "masked.onnx", "dense.int8.onnx", "masked.int8.onnx")
    }

    # Predictions are those of the very file in ONNX Runtime.
    score = read_score(out / "predictions.npz")
    config = load_run(out / "dense", trust=True).config
    images = next(iter(build_data(**config.data.model_dump()).test_dataloader()))[0].numpy()
    for name in ("dense int8", "masked int8"):
        session = onnxruntime.InferenceSession(out / f"{name.replace(' ', '.')}.onnx")
        feed = session.get_inputs()[0].name
        said = [session.run(None, {feed: image[None]})[0].argmax() for image in images]
        assert (np.array(said) == score.said[name]).mean() >= 0.9, name

    # It goes on as it was begun.
    assert cli.main(COMMAND) == 2
    assert "was begun with" in capsys.readouterr().err
    assert cli.main((*COMMAND, "--int8")) == 0


class Killed(BaseException):
    """What ends a process between two stages."""


@pytest.mark.slow
def test_it_goes_on_after_a_stop_between_any_two_stages(place, estimated, monkeypatch, capsys):
    made: list[str] = []

    def counted(stage: stages.Stage, stop: bool) -> stages.Stage:
        def make(work) -> None:
            stage.make(work)
            made.append(stage.result)
            if stop:
                raise Killed

        return replace(stage, make=make)

    original = stages.STAGES
    monkeypatch.setattr(stages, "STAGES", tuple(counted(stage, True) for stage in original))
    for at in range(len(RESULTS)):
        with pytest.raises(Killed):
            cli.main(COMMAND)
        assert made == RESULTS[: at + 1]
    assert cli.main(COMMAND) == 0
    assert made == RESULTS
    assert (place / "out" / "README.md").is_file()

    # A lost result that others were made from is not made anew under them.
    (place / "out" / "plan.yaml").unlink()
    capsys.readouterr()
    assert cli.main(COMMAND) == 2
    assert "plan.yaml: is missing, and masked.onnx was made from it" in capsys.readouterr().err


@pytest.mark.slow
def test_a_stop_within_training_goes_on_there(place, estimated, monkeypatch, caplog):
    class Impatient(interrupt.Interruption):
        asked = 0

        @property
        def requested(self) -> bool:
            Impatient.asked += 1
            return Impatient.asked == 3

        @requested.setter
        def requested(self, value: bool) -> None:
            pass

    monkeypatch.setattr("activsparse.train.trainer.Interruption", Impatient)
    assert cli.main(COMMAND) == 130
    assert "go on with: activsparse sparsify own:tiny" in caplog.text
    assert not (place / "out" / "dense.onnx").exists()
    assert cli.main(COMMAND) == 0
    stopped = digests(place / "out", ["dense.onnx", "masked.onnx"])
    whole = [word if word != "out" else "whole" for word in COMMAND]
    assert cli.main(whole) == 0
    assert digests(place / "whole", ["dense.onnx", "masked.onnx"]) == stopped


@pytest.mark.slow
def test_own_weights_that_know_the_classes_are_taken_as_they_are(place, estimated, capsys):
    torch.manual_seed(0)
    network = build_model("own:tiny", 3).eval()
    torch.save(network.state_dict(), "own.pt")
    command = [*COMMAND, "dense.epochs=1", "training.epochs=1"]
    assert cli.main([*command[:2], "--weights", "own.pt", *command[2:]]) == 0
    x = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = network(x).numpy()
    np.testing.assert_allclose(Session("out/dense.onnx").run(x), expected, atol=1e-4)
    noted = json.loads((place / "out" / "sparsify.json").read_text())
    assert noted["weights"].startswith("own.pt (")
