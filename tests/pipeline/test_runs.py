"""`activsparse report` of runs of one's own."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from activsparse import cli
from activsparse.data import build_data
from activsparse.errors import ActivsparseError
from activsparse.pipeline.runs import read_losses, report_of_runs
from activsparse.report import Loss
from activsparse.train import load_run

TRAIN = (
    *("train", "--recipe", "finetune", "--set", "model.name=own:tiny", "model.weights=null"),
    *("data.root=images", "data.image_size=16", "data.batch_size=8", "threads=1"),
    *("training.epochs=1", "dense.epochs=1", "training.warmup=0", "sparsity.pattern=random"),
)
REPORT = ("--repeat", "2", "--engines", "onnxruntime", "--trust")


def figures(page: Path) -> dict:
    (text,) = re.findall(r'id="figures">(.*?)</script>', page.read_text())
    return json.loads(text)


@pytest.mark.slow
def test_a_run_is_shown_beside_the_dense_one_it_started_from(place, capsys):
    assert cli.main([*TRAIN, "--out", "run"]) == 0
    Path("loss.csv").write_text("layer,requested,loss_increase\nconv1,0.2,0.5\n")
    capsys.readouterr()
    words = ["report", "run", "--out", "page.html", "--sensitivity", "loss.csv", *REPORT]
    assert cli.main(words) == 0
    assert "run is " in capsys.readouterr().out
    found = figures(Path("page.html"))
    assert [trace["name"] for trace in found["accuracy"]["data"]] == ["dense", "run"]
    assert found["losses"]["data"][0]["x"] == [0.5]

    # Confusion is that of torch on the very images.
    for at, folder in enumerate(("run/dense", "run")):
        run = load_run(folder, trust=True)
        images, labels = next(iter(build_data(**run.config.data.model_dump()).test_dataloader()))
        said = run.model(images).argmax(dim=1)
        (heatmap,) = found[f"confusion-{at}"]["data"]
        table = np.array(heatmap["customdata"])
        for right in range(len(table)):
            for other in range(len(table)):
                expected = int(((labels == right) & (said == other)).sum())
                assert table[right, other] == expected, (folder, right, other)

    assert cli.main(["report", "run/dense", "missing", *REPORT]) == 2
    assert "missing: no such folder" in capsys.readouterr().err


def test_a_folder_of_sparsify_that_is_not_done_is_named(tmp_path):
    (tmp_path / "sparsify.json").write_text("{}")
    with pytest.raises(ActivsparseError, match="give its command again, which goes on"):
        report_of_runs([tmp_path], ["activsparse"])


def test_other_files_are_no_sensitivities(tmp_path):
    good = tmp_path / "good.csv"
    good.write_text("layer,requested,achieved,loss,loss_increase,top1\nc,0.2,0.25,1.5,0.5,\n")
    assert read_losses(good) == [Loss("c", 0.2, 0.5)]
    for text in ("layer,loss\nc,1\n", "layer,requested,loss_increase\nc,x,1\n"):
        (tmp_path / "bad.csv").write_text(text)
        with pytest.raises(ActivsparseError, match="no measured sensitivities"):
            read_losses(tmp_path / "bad.csv")
