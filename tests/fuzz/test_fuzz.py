"""Some random graphs, and that the machine behind them finds and shrinks a planted fault."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from fuzz import doors
from fuzz.doors import Feed, Options, random_options
from fuzz.graphs import random_case
from fuzz.judge import judge, kind_of
from fuzz.pool import Worker
from fuzz.shrink import shrink


@pytest.mark.parametrize("seed", range(20))
def test_random_graphs(tmp_path: Path, seed: int) -> None:
    case, options = random_case(seed), random_options(seed)
    path = case.save(tmp_path, "case")
    verdict = judge(path, case.feed, options, ["direct", "drawn", "fallback"], tmp_path)
    assert not verdict.failures, (seed, options, verdict)


def test_a_seed_is_a_case() -> None:
    for seed in range(5):
        one, two = random_case(seed), random_case(seed)
        assert one.model == two.model
        np.testing.assert_equal(one.feed, two.feed)


def test_a_planted_fault_is_found_and_shrunk(tmp_path: Path, monkeypatch) -> None:
    def planted(path: Path, feed: Feed, options: Options) -> list[np.ndarray]:
        outputs = doors.fallback(path, feed, options)
        broken = any(node.op_type == "Sigmoid" for node in onnx.load(path).graph.node)
        return [y + broken for y in outputs]

    monkeypatch.setitem(doors.DOORS, "planted", planted)

    def has_sigmoid(seed: int) -> bool:
        case = random_case(seed)
        return "Sigmoid" in {node.op_type for node in case.model.graph.node} and not case.foreign

    seed = next(filter(has_sigmoid, range(100)))
    case = random_case(seed)

    def fails(model: onnx.ModelProto, feed: Feed, options: Options) -> bool:
        path = tmp_path / "try.onnx"
        onnx.save(model, path)
        verdict = judge(path, feed, options, ["planted"], tmp_path)
        return any("wrong number" in text for text in verdict.failures.values())

    options = random_options(seed)
    assert fails(case.model, case.feed, options)
    model, _, options = shrink(case.model, case.feed, options, fails, 20)
    assert [node.op_type for node in model.graph.node] == ["Sigmoid"]
    assert options.threads == 1


def test_kinds_of_failure_hold_no_names_or_numbers() -> None:
    one = kind_of("wrong number: output 'v19_relu' is off by 0.934 (bound 3.1e-05)")
    assert one == kind_of("wrong number: output 'v2_x' is off by 5e3 (bound 1e-06)")


def test_a_dead_worker_is_a_failure(tmp_path: Path, monkeypatch) -> None:
    script = "import os, sys; sys.stdin.readline(); os.abort()"
    worker = Worker()
    worker._command = [sys.executable, "-c", script]
    assert "SIGABRT" in worker.ask({"seed": 0})["failures"]["process"]
    worker._command = [sys.executable, "-c", "import time; time.sleep(60)"]
    assert "hang" in worker.ask({"seed": 0}, seconds=0.5)["failures"]["process"]


def test_from_the_command_line(tmp_path: Path) -> None:
    words = ["--seed", "5", "--cases", "2", "--out", tmp_path]
    done = subprocess.run(
        [sys.executable, "-m", "fuzz", *map(str, words)],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "fuzz: seed 5" in done.stdout
    assert "0 of 2 cases failed" in done.stdout
