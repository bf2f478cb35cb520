"""Runs: folders without training, trainings that stop, and several processes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

from activsparse.models import build_model
from activsparse.train.recipes.read import dump_config, load_config
from activsparse.train.run.folder import example_input, load_run, make_sparsifier

TINY = (
    "model.options={'widths': [8, 16], 'blocks': [1, 1]}",
    "data.image_size=16",
    "training.epochs=1",
    "dense=null",
    "threads=1",
)


def make_run(folder: Path, *changes: str) -> Any:
    """A run of `digits_demo` with random weights and norm statistics."""
    config = load_config("digits_demo", [*TINY, *changes])
    torch.manual_seed(0)
    model = build_model("small_resnet", 10, in_channels=1, **config.model.options)
    for name, value in model.state_dict().items():
        if name.endswith(("running_mean", "running_var", "bn1.weight", "bn2.weight")):
            value.copy_(torch.rand_like(value) + 0.5)
    make_sparsifier(model, example_input((1, 16, 16)), config, total_steps=1)
    folder.mkdir(parents=True)
    state = {f"model.{key}": value for key, value in model.state_dict().items()}
    extra = {"shape": [1, 16, 16], "num_classes": 10}
    torch.save({"state_dict": state, "activsparse": extra}, folder / "best.ckpt")
    (folder / "config.yaml").write_text(dump_config(config))
    return load_run(folder)


class StopAt:
    """Asks for an interruption at the n-th step, counted over both phases."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.asked = 0

    def __enter__(self) -> StopAt:
        return self

    def __exit__(self, *args: object) -> None:
        pass

    @property
    def requested(self) -> bool:
        self.asked += 1
        return self.asked >= self.step


def run(*arguments: str, processes: int) -> subprocess.CompletedProcess[str]:
    """Run Python in one process, or in several that torchrun starts."""
    launch = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return subprocess.run(
        [sys.executable, *(launch if processes > 1 else []), *arguments],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
