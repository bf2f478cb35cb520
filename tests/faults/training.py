"""kill -9 of trainings at random moments: every one resumes to the very same run."""

from __future__ import annotations

import csv
import json
import random
import shutil
import time
from pathlib import Path
from typing import Any

from faults.children import command

RECIPE = """
extends: digits_demo
model: {options: {widths: [8, 16], blocks: [1, 1]}}
data: {image_size: 16, batch_size: 64}
dense: {epochs: 2, lr: 0.2}
training: {epochs: 2, lr: 0.1}
"""
TIMES = ("seconds",)


def kills_of_training(folder: Path, count: int, seed: int) -> list[str]:
    """Kill `count` trainings, resume each until it is through, compare with one left alone.

    Returns:
        A line per run that did not resume to the same weights, figures and files.
    """
    recipe = folder / "tiny.yaml"
    recipe.write_text(RECIPE)
    begin = time.monotonic()
    whole = folder / "whole"
    child = command(folder / "log", "train", "--recipe", recipe, "--out", whole)
    if child.wait() != 0:
        return [f"the uninterrupted run failed: {child.said[-300:]}"]
    lasts = time.monotonic() - begin
    wanted = contents(whole)
    rng = random.Random(seed)
    faults, killed, early = [], 0, 0
    for number in range(count):
        run = folder / f"run{number}"
        words: list[Any] = ["train", "--recipe", recipe, "--out", run]
        for _ in range(rng.choice([1, 1, 1, 2])):
            moment = rng.uniform(0, lasts)
            killed += command(folder / "log", *words).kill_after(moment)
            faults += [f"run {number}, killed after {moment:.2f} s: {f}" for f in unreadable(run)]
            if (run / "config.yaml").exists():
                words = ["train", "--resume", run]
            else:
                early += 1
        child = command(folder / "log", *words)
        status = child.wait()
        if status != 0:
            faults.append(f"run {number}: exit status {status} on resume: {child.said[-300:]}")
        else:
            faults += [f"run {number}: {f}" for f in differences(wanted, contents(run))]
        shutil.rmtree(run, ignore_errors=True)
    print(
        f"kill -9 of training: {count} runs killed {killed} times within {lasts:.1f} s "
        f"({early} before anything was written), resumed; {len(faults)} faults"
    )
    return faults


def contents(run: Path) -> dict[str, Any]:
    """All a run folder says, but for how long it took."""
    import torch

    found: dict[str, Any] = {}
    for file in sorted(run.rglob("*")):
        name = str(file.relative_to(run))
        if file.suffix == ".ckpt":
            state = torch.load(file, weights_only=False, map_location="cpu")["state_dict"]
            found[name] = {key: value.tolist() for key, value in flat(state)}
        elif file.name == "metrics.csv":
            rows = list(csv.DictReader(file.open()))
            found[name] = [{k: v for k, v in row.items() if k not in TIMES} for row in rows]
        elif file.name == "summary.json":
            found[name] = untimed(json.loads(file.read_text()))
        elif file.name == "config.yaml":
            found[name] = file.read_text()
    return found


def flat(state: dict[str, Any]) -> list[tuple[str, Any]]:
    """Tensors of a state, nested ones too."""
    pairs: list[tuple[str, Any]] = []
    for key, value in state.items():
        if isinstance(value, dict):
            pairs += [(f"{key}.{k}", v) for k, v in flat(value)]
        elif hasattr(value, "tolist"):
            pairs.append((key, value))
    return pairs


def untimed(summary: Any) -> Any:
    if isinstance(summary, dict):
        return {k: untimed(v) for k, v in summary.items() if k not in TIMES}
    return summary


def differences(wanted: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What two run folders disagree about; paths in the recipe are their own."""
    lines = []
    for name in sorted({*wanted, *found}):
        if name not in wanted or name not in found:
            lines.append(f"{name} is in one of them only")
        elif not name.endswith("config.yaml") and wanted[name] != found[name]:
            lines.append(f"{name} differs")
    return lines


def unreadable(run: Path) -> list[str]:
    """Files of a run folder that a kill left damaged."""
    import torch
    import yaml

    faults = []
    readers = {
        ".ckpt": lambda f: torch.load(f, weights_only=False, map_location="cpu"),
        ".json": lambda f: json.loads(f.read_text()),
        ".yaml": lambda f: yaml.safe_load(f.read_text())["recipe"],
        ".csv": lambda f: list(csv.DictReader(f.open())),
    }
    for file in run.rglob("*") if run.exists() else ():
        if file.is_file() and file.suffix in readers and not file.name.startswith("."):
            try:
                readers[file.suffix](file)
            except Exception as error:  # a damaged file may raise anything
                faults.append(f"{file.name} is unreadable: {type(error).__name__}: {error}")
    return faults
