"""Which dense run a masked one is compared with, on run folders made up for it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from activsparse.cli import main
from activsparse.train.as_long import dense_as_long, epochs_in_all
from activsparse.train.recipes.read import dump_config, load_config


def finished(folder: Path, *changes: str, epochs: int, top1: float = 0.5) -> dict:
    """A run folder as training leaves it, without its checkpoints."""
    folder.mkdir(parents=True)
    config = load_config("digits_tiles", changes)
    (folder / "config.yaml").write_text(dump_config(config))
    layers = [] if config.sparsity is None else [{"name": "conv"}]
    summary = {"epochs": epochs, "layers": layers, "top1": top1}
    (folder / "summary.json").write_text(json.dumps(summary))
    return summary


@pytest.fixture
def masked(tmp_path):
    """4 epochs with masks after 8 dense ones: the folder, its recipe, its summary."""
    folder = tmp_path / "runs" / "masked"
    summary = finished(folder, epochs=4)
    finished(folder / "dense", "sparsity=null", "dense=null", epochs=8)
    return folder, load_config("digits_tiles"), summary


def test_epochs_of_the_runs_it_started_from_count(masked, tmp_path):
    folder, _, _ = masked
    assert epochs_in_all(folder) == 12
    finished(tmp_path / "more", f"init_from={folder}", "dense=null", epochs=3)
    assert epochs_in_all(tmp_path / "more") == 15
    torch.save({}, tmp_path / "weights.pt")
    finished(tmp_path / "file", f"init_from={tmp_path / 'weights.pt'}", "dense=null", epochs=3)
    assert epochs_in_all(tmp_path / "file") == 3
    finished(tmp_path / "lost", f"init_from={tmp_path / 'w' / '..'}", "dense=null", epochs=3)
    assert epochs_in_all(tmp_path / "lost") is None


def test_its_own_start_was_not_trained_as_long(masked):
    assert dense_as_long(*masked) is None


def test_a_run_beside_it_counts_if_only_masks_are_missing(masked):
    folder, config, summary = masked
    beside = folder.parent
    finished(beside / "shorter", "sparsity=null", epochs=2)
    finished(beside / "shorter" / "dense", "sparsity=null", "dense=null", epochs=8)
    finished(beside / "other", "sparsity=null", "training.lr=7", epochs=9)
    finished(beside / "other" / "dense", "sparsity=null", "dense=null", epochs=8)
    (beside / "damaged").mkdir()
    (beside / "damaged" / "config.yaml").write_text("a: [")
    assert dense_as_long(folder, config, summary) is None
    finished(beside / "twin", "sparsity=null", epochs=4, top1=0.75)
    finished(beside / "twin" / "dense", "sparsity=null", "dense=null", epochs=8)
    found = {"run": str(beside / "twin"), "epochs": 12, "top1": 0.75}
    assert dense_as_long(folder, config, summary) == found


@pytest.mark.parametrize(
    ("changes", "epochs", "known"),
    [
        ((), 4, True),  # from random weights, with a teacher that was trained as long
        ((), 5, False),
        (("data.image_size=16",), 4, False),  # another task
    ],
)
def test_a_teacher_counts_if_it_was_trained_as_long(tmp_path, changes, epochs, known):
    teacher = tmp_path / "elsewhere" / "teacher"
    finished(teacher, "sparsity=null", "dense=null", "training.lr=0.3", *changes, epochs=4)
    taught = ("dense=null", f"distillation={{'teacher': '{teacher}'}}")
    folder = tmp_path / "runs" / "masked"
    summary = finished(folder, *taught, epochs=epochs)
    found = dense_as_long(folder, load_config("digits_tiles", taught), summary)
    assert found == ({"run": str(teacher), "epochs": 4, "top1": 0.5} if known else None)


def test_train_says_what_masks_cost_or_that_it_is_not_known(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    small = "model.options={'widths': [8, 16], 'blocks': [1, 1]}"
    brief = ("dense=null", "data.limit=48", "training.epochs=1", "training.warmup=0")
    words = ["train", "--recipe", "digits_lattice", "--no-check-export", "--set"]
    words += [*brief, "distillation=null", small]
    assert main([*words, "--out", "runs/first"]) == 0
    assert "What masks cost is not known" in " ".join(capsys.readouterr().out.split())
    assert json.loads(Path("runs/first/summary.json").read_text())["dense_as_long"] is None
    assert main([*words, "sparsity=null", "--out", "runs/dense"]) == 0
    assert "masks cost" not in capsys.readouterr().out
    assert main([*words, "--out", "runs/second"]) == 0
    dense, second = (
        json.loads(Path(f"runs/{name}/summary.json").read_text()) for name in ("dense", "second")
    )
    figures = {"run": "runs/dense", "epochs": 1, "top1": dense["top1"]}
    assert second["dense_as_long"] == figures
    lost = 100 * (dense["top1"] - second["top1"])
    said = f"masks cost {lost:.2f} points of top1: the dense network of runs/dense, trained for 1 "
    assert said in " ".join(capsys.readouterr().out.split())


def test_an_option_of_another_command_is_an_error_of_this_one(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--recipe", "digits_tiles", "--isa", "avx2"])
    assert "activsparse train: error: unrecognized arguments: --isa" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["train", "--recipe", "digits_tiles", "--target-speedup", "0.5"])
    assert "--target-speedup: '0.5' is no speed-up above 1" in capsys.readouterr().err
