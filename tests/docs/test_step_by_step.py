"""README's steps in their order, on a network that learns for moments, and what goes on from it.

The tutorial, training, recipes, C, detection and scaling out have tests of their own; that the
parser takes every command is tested for all pages.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

import activsparse
from activsparse import Session
from activsparse.models import SmallResNet
from activsparse.train import Sparsifier

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": str(Path(activsparse.__file__).parents[1]),
    "OMP_NUM_THREADS": "1",
}
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"(?:taskset -c \S+ )?activsparse (\w+.*)")
# What makes a command short, by its first word.
BRIEFLY = {
    "train": "--set training.epochs=1 dense.epochs=1 data.limit=64",
    "bench": "--repeat 1",
    "sensitivity": "--images 32 --sparsities 0.5",
}
# Commands that tests of their own run, or that need what is not at hand.
ELSEWHERE = {
    "README.md": ("sparsify",),  # the tutorial's
    "docs/search.md": ("calibrate", "plan", "train", "mask"),  # tests/cli/test_plan.py; minutes
    "docs/litert.md": ("export",),  # litert-torch
}
PAGES = ("docs/litert.md", "docs/plan-format.md", "docs/versions.md", "docs/search.md")
PAGES += ("docs/quantisation.md", "integrations/onnxruntime/README.md")


def run_commands(page: str, folder: Path) -> list[str]:
    """Run a page's commands in a folder; returns their first words."""
    ran = []
    for language, block in BLOCK.findall((ROOT / page).read_text()):
        for line in block.splitlines() if not language else ():
            if not (found := COMMAND.match(line)):
                continue
            words = shlex.split(found[1], comments=True)
            if words[0] in ELSEWHERE.get(page, ()):
                continue
            if words[0] == "run":
                shape = Session(folder / words[1], tune=False).get_inputs()[0].shape
                np.save(folder / "x.npy", np.zeros(shape, np.float32))
            command = [sys.executable, "-m", "activsparse", *words]
            done = subprocess.run(
                [*command, *BRIEFLY.get(words[0], "").split()],
                cwd=folder,
                env=ENVIRONMENT,
                capture_output=True,
                text=True,
                timeout=500,
            )
            assert done.returncode == 0, f"{page}: {line}\n{done.stdout}{done.stderr[-2000:]}"
            ran.append(words[0])
    return ran


def run_python(page: str, folder: Path, having: str, **names: object) -> dict[str, object]:
    """Run those of a page's blocks of Python that have some text, in turn, in a folder."""
    names["__name__"] = page
    for language, block in BLOCK.findall((ROOT / page).read_text()):
        if language == "python" and having in block:
            exec(block, names)
    return names


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the README's commands have run."""
    place = tmp_path_factory.mktemp("steps")
    rng = np.random.default_rng(0)
    (place / "photos").mkdir()
    for number in range(12):
        pixels = rng.integers(0, 256, (32, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(place / "photos" / f"{number}.png")
    torch.manual_seed(0)
    model = SmallResNet(3, 1, widths=(8, 16), blocks=(1, 1)).eval()
    activsparse.export(model, torch.zeros(1, 1, 16, 16), place / "model.onnx")
    ran = run_commands("README.md", place)
    assert len(ran) >= 11, ran
    # Under the names that other pages give them.
    shutil.copy(place / "tiles.onnx", place / "masked.onnx")
    shutil.copytree(place / "runs" / "tiles" / "dense", place / "runs" / "dense")
    return place


@pytest.mark.slow
def test_the_readme_s_results_are_used_as_it_says(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert Path("masks.h").is_file()
    assert np.load("y.npy").shape == tuple(Session("tiles.onnx").get_outputs()[0].shape)
    shape = Session("tiles.onnx").get_inputs()[0].shape
    x = np.random.default_rng(1).standard_normal(shape, np.float32)
    expected = onnxruntime.InferenceSession("tiles.onnx").run(None, {"input": x})[0]
    used = run_python("README.md", folder, "activsparse.Session", x=x)
    np.testing.assert_allclose(used["y"], expected, atol=1e-3)
    used = run_python("README.md", folder, "activsparse.onnxruntime")
    found = used["session"].run(None, {"input": x})[0]
    np.testing.assert_allclose(found, expected, atol=1e-3)
    pytest.importorskip("ai_edge_litert")
    used = run_python("README.md", folder, "activsparse.litert")
    interpreter = used["interpreter"]
    (given,), (asked,) = interpreter.get_input_details(), interpreter.get_output_details()
    interpreter.set_tensor(given["index"], x.transpose(0, 2, 3, 1))
    interpreter.invoke()
    np.testing.assert_allclose(interpreter.get_tensor(asked["index"]), expected, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run(folder, page):
    assert run_commands(page, folder)


@pytest.mark.slow
def test_the_python_of_pages_runs(folder, monkeypatch):
    monkeypatch.chdir(folder)
    subprocess.run(
        [sys.executable, "-m", "activsparse", "compile", "masked.onnx", "--out", "masked.plan"],
        env=ENVIRONMENT,
        check=True,
    )
    run_python("integrations/onnxruntime/README.md", folder, "onnxruntime")
    images = [(torch.randn(4, 1, 16, 16), torch.randint(3, (4,))) for _ in range(4)]
    model = SmallResNet(3, 1, widths=(8, 16), blocks=(1, 1))
    used = run_python(
        "docs/search.md",
        folder,
        "search_masks",
        torch=torch,
        Sparsifier=Sparsifier,
        model=model,
        example_input=torch.zeros(1, 1, 16, 16),
        held_out_batches=images,
    )
    assert used["sparsifier"].layers


@pytest.mark.slow
def test_the_models_for_a_raspberry_pi_are_made(tmp_path):
    # What this machine does of it; what a Pi does is run under an emulator, by tests of their own.
    blocks = BLOCK.findall((ROOT / "docs/raspberry-pi.md").read_text())
    (made,) = [block for _, block in blocks if "export_onnx" in block]
    (compiled,) = [block.split("\n\n")[0] for _, block in blocks if "masked.plan cat" in block]
    lines = [line for line in f"{made}\n{compiled}".splitlines() if not line.startswith("scp")]
    (tmp_path / "activsparse").write_text(
        f'#!/bin/sh\nexec "{sys.executable}" -m activsparse "$@"\n'
    )
    (tmp_path / "activsparse").chmod(0o755)
    path = f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(
        ["bash", "-ec", "\n".join(lines)],
        cwd=tmp_path,
        env={**ENVIRONMENT, "PATH": path},
        check=True,
    )
    with (tmp_path / "masked.plan").open("rb") as plan:
        assert b"neon" in plan.read(72)[56:]  # docs/plan-format.md
