"""Commands of pages that train, plan and measure, as they stand but for what makes them brief."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from blocks import ROOT, lines_of
from PIL import Image
from runs import make_run

from activsparse.cli import main
from activsparse.export.onnx import export_onnx
from activsparse.export.read import read_masks
from activsparse.train import load_run

pytestmark = pytest.mark.slow

SMALL = (
    *("threads=1", "training.epochs=1", "data.limit=48", "data.image_size=16"),
    "model.options={'widths': [8, 16], 'blocks': [1, 1]}",
)
SCENES = (
    *("threads=1", "training.epochs=1", "training.precision=32-true", "data.image_size=64"),
    *("data.batch_size=4", "data.options={pictures: 8, test_pictures: 2, source: digits}"),
)


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("ACTIVSPARSE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def run(page: str, start: str, *more: str, **stand_ins: str) -> None:
    """Run the commands of a page that begin so, with further words and stand-ins."""
    found = [line.text for line in lines_of(page) if line.text.startswith(f"activsparse {start}")]
    assert found, start
    for text in found:
        _, *words = shlex.split(text, comments=True)
        words = [stand_ins.get(word, word) for word in words]
        assert main([*words, *more]) == 0, text


def test_a_plan_by_the_page():
    page = "docs/search.md"
    make_run(Path("runs/dense"), "sparsity=null")
    dense = load_run("runs/dense")
    export_onnx(dense.model, dense.example_input, "dense.onnx")
    run(page, "calibrate", "--seconds", "0.2", "--force")
    run(page, "plan runs/dense", *["--estimate", "--images", "32", "--masks", "1", "--rounds", "0"])
    run(
        page,
        "train --recipe R",
        *SMALL,
        "search.candidates=0",
        "--out",
        "runs/planned",
        R="digits_demo",
    )
    run(page, "mask dense.onnx --plan")
    masked, trained = read_masks("masked.onnx"), load_run("runs/planned").sparsifier.masks()
    assert masked.keys() == trained.keys()
    for name, mask in masked.items():
        np.testing.assert_array_equal(mask, trained[name])


def test_a_pruned_network_is_trained_with_masks_by_the_page():
    pytest.importorskip("torch_pruning")
    page = "docs/search.md"
    make_run(Path("runs/dense"), "sparsity=null")
    run(page, "prune runs/dense")
    words = ("data.name=digits", "data.options={}", "data.batch_size=16", "distillation=null")
    run(
        page,
        "train --recipe fashion_mnist_best",
        "--set",
        *SMALL[:-1],
        *words,
        "search.candidates=0",
    )
    assert load_run("runs/small_sparse").sparsifier.masks()


def test_the_recipes_page(capsys):
    page = "docs/recipes.md"
    run(page, "train --recipe digits_demo --out", "--set", *SMALL, "dense.epochs=1")
    run(page, "train --recipe digits_paper", "--set", *SMALL)
    capsys.readouterr()
    run(page, "train --recipe digits_demo --set training.epochs=20")
    assert re.search(r"epochs: 20\n", capsys.readouterr().out)
    run(page, "train --resume")
    assert Path("runs/paper/summary.json").is_file()


def test_the_detection_page():
    page = "docs/detection.md"
    run(page, "train --recipe fashion_scenes_dense", "--set", *SCENES)
    brief = ("search.spread=false", "search.candidates=0")  # tests/reproduce has them
    run(page, "train --recipe fashion_scenes_best", "--set", *SCENES, *brief)
    run(page, "export runs/fashion_scenes_best")
    rng = np.random.default_rng(0)
    Path("scenes/images/val").mkdir(parents=True)
    for file in ("photo.png", "scenes/images/val/0.png"):
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(file)
    run(page, "detect scenes.onnx")
    assert Path("detections.html").is_file()
    # Networks of another package are stood in for by ours.
    shutil.copy("dense.onnx", "yolov8n.onnx")
    shutil.copy("scenes.onnx", "sparse.onnx")
    run(page, "mask yolov8n.onnx")
    run(page, "bench", "--repeat", "1")
    run(page, "verify sparse.onnx")
    run(page, "detect sparse.onnx")


def test_the_kernel_benchmark(monkeypatch):
    (line,) = [line for line in lines_of("docs/performance.md") if "kernels.py" in line.text]
    _, _, _, _, script, *words = shlex.split(line.text)
    brief = [
        *["--repeat", "1", "--sparsity", "0.3", "--pattern", "lattice", "--algorithm", "direct"]
    ]
    monkeypatch.setattr(sys, "argv", [script, *words, *brief])
    runpy.run_path(str(ROOT / script), run_name="__main__")
    assert Path("kernels.csv").read_text().count("\n") > 5


def test_the_delegate_by_the_page():
    pytest.importorskip("ai_edge_litert")
    import activsparse.litert

    make_run(Path("runs/masked"))
    trained = load_run("runs/masked")
    export_onnx(trained.model, trained.example_input, "masked.onnx")
    run("docs/litert.md", "convert")
    text = (ROOT / "docs" / "litert.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        names = {"activsparse": activsparse}
        exec(block, names)
        interpreter = names["interpreter"]
        (given,), (asked,) = interpreter.get_input_details(), interpreter.get_output_details()
        interpreter.set_tensor(given["index"], np.ones(given["shape"], np.float32))
        interpreter.invoke()
        x = np.ones(trained.example_input.shape, np.float32)
        expected = activsparse.Session("masked.onnx", tune=False).run(x)
        np.testing.assert_allclose(interpreter.get_tensor(asked["index"]), expected, atol=1e-3)
