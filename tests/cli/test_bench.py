"""`activsparse bench` as a user calls it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from activsparse import cli
from activsparse.bench import machine
from activsparse.data import build_data
from activsparse.train.recipes.read import dump_config, load_config
from activsparse.train.run.folder import load_run


def bench(*args: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "activsparse", "bench", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_prints_a_table_and_writes_json(dense: Path, tmp_path: Path):
    out = tmp_path / "bench.json"
    result = bench("--dense", dense, "--engines", "onnxruntime", "--repeat", 3, "--json", out)
    assert result.returncode == 0, result.stderr
    assert "onnxruntime" in result.stdout
    data = json.loads(out.read_text())
    assert [row["engine"] for row in data["rows"]] == ["onnxruntime"]
    assert data["rows"][0]["max_abs_err"] == 0.0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--dense", "missing.onnx"], "missing.onnx: no such file"),
        (["--dense", "{dense}", "--engines", "tvm"], "no engine named 'tvm'"),
        (["--dense", "{dense}", "--engines", ","], "argument --engines: names no engine"),
        (["--dense", "{dense}", "--isa", "mmx"], "mmx"),
        (["--dense", "{dense}", "--threads", "0"], "argument --threads"),
        (["--dense", "{dense}", "--repeat", "many"], "argument --repeat"),
        (["--dense", "{dense}", "--json", "no/such/folder.json"], "cannot be written"),
        (["--dense", "{garbage}"], "garbage.onnx: not an ONNX file, or a damaged one; export"),
        ([], "--dense"),
    ],
)
def test_bad_input_is_one_line_and_exits_2(
    args: list[str], message: str, dense: Path, tmp_path: Path
):
    garbage = tmp_path / "garbage.onnx"
    garbage.write_bytes(b"not a model")
    result = bench(*(arg.format(dense=dense, garbage=garbage) for arg in args))
    assert result.returncode == 2
    lines = result.stderr.splitlines()
    assert len(lines) == 1, result.stderr
    assert message in lines[0]


def test_a_failed_run_leaves_no_output(tmp_path: Path):
    out = tmp_path / "bench.json"
    assert bench("--dense", tmp_path / "missing.onnx", "--json", out).returncode == 2
    assert list(tmp_path.iterdir()) == []


def columns(text: str) -> list[str]:
    """The headings of the table, from the line that begins with `model`."""
    (line,) = [line for line in text.splitlines() if line.split()[:1] == ["model"]]
    return line.split()


def test_columns_are_the_same_wherever_they_are_printed(dense, sparse, monkeypatch, capsys):
    words = ["bench", "--dense", str(dense), "--sparse", str(sparse), "--repeat", "1"]
    for width, terminal in (("40", "1"), ("300", "1"), ("40", "")):
        monkeypatch.setenv("COLUMNS", width)
        monkeypatch.setenv("FORCE_COLOR", terminal)
        assert cli.main(words) == 0
        shown = capsys.readouterr().out
        plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        found = columns(plain)
        assert " ".join(found) == "model engine type p50 ± p90 p99 load peak x best x own rel err"
        assert "precision: float32; instruction set: activsparse on" in " ".join(plain.split())


def test_a_busy_machine_is_named(dense, monkeypatch, caplog, tmp_path):
    out = tmp_path / "bench.json"
    words = ["bench", "--dense", str(dense), "--repeat", "1", "--json", str(out)]
    for busy, said in ((1.5, True), (0.1, False)):
        monkeypatch.setattr(machine, "busy_cores", lambda busy=busy: busy)
        caplog.clear()
        assert cli.main(words) == 0
        assert ("the machine is busy (1.5 cores" in caplog.text) == said
        assert bool(json.loads(out.read_text())["warnings"]) == said


def test_a_row_says_how_slow_slow_runs_are_and_what_loading_took(dense, tmp_path):
    out = tmp_path / "bench.json"
    assert cli.main(["bench", "--dense", str(dense), "--repeat", "20", "--json", str(out)]) == 0
    for row in json.loads(out.read_text())["rows"]:
        assert 0 < row["min_ms"] <= row["median_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["load_ms"] > 0
        assert (row["isa"] is not None) == (row["engine"] == "activsparse")


@pytest.mark.parametrize("place", [".", "/", ""])
def test_what_is_no_file_is_told_in_a_line(place, dense, capsys):
    for words in (["--dense", place], ["--dense", str(dense), "--sparse", place]):
        assert cli.main(["bench", *words, "--repeat", "1"]) == 2
        assert "is a folder; name a file" in capsys.readouterr().err


def test_accuracy_is_counted_where_a_run_is_known(tmp_path, monkeypatch, capsys):
    """Against torch on the same images; a name as long as two columns keeps all of the others."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    brief = ("dense=null", "data.limit=48", "training.epochs=1", "distillation=null")
    small = "model.options={'widths': [8, 16], 'blocks': [1, 1]}"
    words = ["train", "--recipe", "digits_lattice", "--out", "run", "--no-check-export", "--set"]
    assert cli.main([*words, *brief, small, "training.warmup=0"]) == 0
    long = f"{'of_a_long_name_' * 4}.onnx"
    assert cli.main(["export", "run", "--out", long, "--dense", "dense.onnx"]) == 0
    capsys.readouterr()
    words = [
        "bench",
        "--dense",
        "dense.onnx",
        "--sparse",
        long,
        "--repeat",
        "1",
        "--json",
        "b.json",
    ]
    assert cli.main([*words, "--run", "run"]) == 0
    shown = capsys.readouterr().out
    assert " ".join(columns(shown)).endswith("x best x own rel err top-1")
    rows = json.loads(Path("b.json").read_text())["rows"]
    found = {row["model"]: row["top1"] for row in rows if row["engine"] == "activsparse"}
    assert [row["top1"] for row in rows if row["engine"] != "activsparse"] == [None, None]
    run = load_run("run")
    data = build_data(**run.config.data.model_dump(), seed=run.config.seed)
    right = count = 0
    with torch.no_grad():
        for images, labels in data.test_dataloader():
            right += int((run.model(images).argmax(1) == labels).sum())
            count += len(labels)
    assert found[long] == pytest.approx(right / count, abs=1.5 / count)
    for value in found.values():
        assert f"{100 * value:.2f} %" in shown
    for row in rows:
        assert row["max_rel_err"] == pytest.approx(row["max_abs_err"], rel=100, abs=1e-9)
    assert cli.main([*words, "--run", "nowhere"]) == 2
    assert cli.main([*words, "--run", "run", "--engines", "onnxruntime"]) == 2
    error = capsys.readouterr().err
    assert "nowhere: no such folder" in error
    assert "--run counts in activsparse, which --engines leaves out" in error


def test_other_images_than_the_run_s_are_refused_before_timing(
    dense, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(dump_config(load_config("digits_lattice")))
    assert cli.main(["bench", "--dense", str(dense), "--run", "run", "--repeat", "1000000"]) == 2
    assert "takes 1x3x8x8, the run's images are 1x1x32x32" in capsys.readouterr().err


def test_models_of_one_name_are_named_by_their_paths(dense, tmp_path, capsys):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        shutil.copy(dense, tmp_path / folder / "same.onnx")
    one, two = (str(tmp_path / folder / "same.onnx") for folder in ("one", "two"))
    assert cli.main(["bench", "--dense", one, "--sparse", two, "--repeat", "1"]) == 0
    shown = capsys.readouterr().out
    assert "one/same.onnx" in shown
    assert "two/same.onnx" in shown


@pytest.mark.parametrize("verb", ["bench --dense", "sparsify", "report --out r.html"])
def test_an_engine_that_does_not_exist_is_refused_at_once(verb, capsys):
    with pytest.raises(SystemExit):
        cli.main([*verb.split(), "nothing", "--engines", "tvm"])
    error = capsys.readouterr().err
    assert error.startswith(f"activsparse {verb.split()[0]}: error: argument --engines: no engine")
    assert "'tvm'; choose from activsparse, onnxruntime" in error
