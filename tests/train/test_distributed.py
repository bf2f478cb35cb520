"""Data parallel: two processes that talk through gloo, against one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from runs import run

HERE = Path(__file__).parent
TINY = """
extends: digits_demo
model: {options: {widths: [8, 16, 32], blocks: [1, 1, 1]}}
data: {image_size: 16, batch_size: 60}
dense: null
training: {epochs: 2, lr: 0.004, schedule: constant, freeze_norms: true, ema: 0.9}
sparsity: {pattern: random, schedule: polynomial, end: 0.6}
"""
EPS = torch.finfo(torch.float32).eps


def assert_near(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    """Masks and counters equal; weights within rounding, which training amplifies step by step.

    The more so the longer the steps: at five times the learning rate of TINY, weights of one
    processor (Zen 3) come to differ by 2e-4, where others stay below 1e-4.
    """
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        if key.endswith("_extra_state"):
            there, here = (json.loads(bytes(v.tolist())[8:]) for v in (found[key], value))
            assert there.pop("best_loss") == pytest.approx(here.pop("best_loss"), rel=1000 * EPS)
            assert there == here, key
            continue
        exact = "activation_mask" in key or not value.is_floating_point()
        bound = 0.0 if exact else 1000 * EPS
        torch.testing.assert_close(
            found[key], value, rtol=bound, atol=bound, msg=lambda m, k=key: k + m
        )


def test_two_ranks_agree_at_every_step_and_match_one_of_twice_the_batch(tmp_path):
    script = str(HERE / "two_ranks.py")
    result = run(script, str(tmp_path / "two"), "8", processes=2)
    assert result.returncode == 0, result.stderr
    result = run(script, str(tmp_path / "one"), "8", processes=1)
    assert result.returncode == 0, result.stderr
    first, second, alone = (
        torch.load(tmp_path / name, weights_only=True) for name in ("two.0", "two.1", "one.0")
    )
    assert len(first["masks"]) == 12
    for step, masks in enumerate(first["masks"]):
        for name, mask in masks.items():
            assert torch.equal(mask, second["masks"][step][name]), f"step {step} {name}"
            assert torch.equal(mask, alone["masks"][step][name]), f"step {step} {name}"
    for key, value in first["state"].items():
        assert torch.equal(value, second["state"][key]), key
    assert_near(first["state"], alone["state"])
    pruning = [0 < step < 8 for step in range(12)]
    assert first["calls"] == [int(at == 0 or prunes) for at, prunes in enumerate(pruning)]
    assert alone["calls"] == [0] * 12
    assert not torch.equal(first["drawn"], second["drawn"]), "dropout differs"
    for one in (first, second, alone):
        assert torch.equal(one["drawn"], one["again"]), "each continues its own stream"
    assert alone["error"] == ""
    assert "the processes differ in seed or step" in first["error"]
    assert second["error"] == first["error"]


@pytest.mark.slow
def test_the_command_line_under_torchrun_matches_one_process(tmp_path):
    (tmp_path / "tiny.yaml").write_text(TINY)
    for processes in (1, 2):
        out = tmp_path / str(processes)
        command = ["-m", "activsparse", "train", "--recipe", str(tmp_path / "tiny.yaml")]
        result = run(*command, "--out", str(out), processes=processes)
        assert result.returncode == 0, result.stderr
        assert result.stderr.count("epoch 1/2 (sparse)") == 1, result.stderr
        assert not list(out.glob(".*")), "no temporary file is left"
    one, two = (
        torch.load(tmp_path / str(n) / "last.ckpt", weights_only=True)["state_dict"] for n in (1, 2)
    )
    assert_near(two, one)
