"""Networks, masked or quantised, compiled here for aarch64 and run by the C interface in qemu."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import quantised
from aarch64 import EMULATORS, built, needs_aarch64
from plan_cases import Cases

from activsparse import Session
from activsparse.engine.compile import compile_model
from activsparse.engine.exact import ExactModel
from activsparse.engine.tolerance import network_bound, sums_of
from activsparse.export.mask import mask_model

SLACK = 2.0**-9
"""Steps that the engine's float32 factors may be off before a rounding."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800), needs_aarch64]


def test_masked_networks_give_what_they_give_here(exported, tmp_path: Path) -> None:
    cases = Cases(tmp_path / "cases")
    x = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
    models = [
        exported("resnet18", "norm", "nearest"),
        exported("mobilenet_v2", "norm", "zero"),
    ]
    masked, _ = mask_model(onnx.load(exported("resnet18")), 0.3, pattern="auto")
    models.append(tmp_path / "resnet18-auto.onnx")
    onnx.save(masked, models[-1])
    for model in models:
        expected = Session(model, tune=False).run(x)
        plan = compile_model(model, isa="neon")
        bound = network_bound(sums_of(plan.reports), expected)
        cases.add(model.stem, plan, [x], [expected], [bound])
    all_hold(cases, len(models))


def test_quantised_networks_give_what_exact_arithmetic_allows(tmp_path: Path) -> None:
    cases = Cases(tmp_path / "cases")
    networks = ["residual", "inverted", "masked", "filled"]
    for network in networks:
        model = quantised.case(tmp_path / f"{network}.onnx", network, "s8s8 per channel")
        (feed,) = quantised.images(onnx.load(model), 6, 1)
        spans = ExactModel(model).run(feed, slack=SLACK).values()
        middle = [(span.low + span.high) / 2 for span in spans]
        room = [
            (span.high - span.low) / 2 + 1e-5 * max(1.0, float(np.abs(span.high).max()))
            for span in spans
        ]
        plan = compile_model(model, isa="neon")
        assert any(report.kind == "conv_u8" for report in plan.reports)
        cases.add(network, plan, list(feed.values()), middle, room)
    all_hold(cases, len(networks))


def test_networks_in_float16_run_where_it_is(exported, tmp_path: Path) -> None:
    cases = Cases(tmp_path / "cases")
    x = np.random.default_rng(0).standard_normal((1, 3, 64, 64), np.float32)
    models = [
        (exported("resnet18", "norm", "nearest"), False),
        (exported("mobilenet_v2", "norm", "zero"), True),
    ]
    for model, winograd in models:
        expected = Session(model, tune=False).run(x)
        plan = compile_model(model, isa="neon", winograd=winograd, precision="float16")
        types = [report.precision for report in plan.reports if report.kind == "conv"]
        assert types.count("float16") > 0.9 * len(types)
        bound = network_bound(sums_of(plan.reports), expected)
        assert bound < 0.5 * np.abs(expected).max()
        cases.add(model.stem, plan, [x], [expected], [bound])
    all_hold(cases, len(models), ["neon-dotprod"])
    words = [*EMULATORS["neon"], built() / "plan_cases", cases.folder]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert ran.returncode == 1
    assert ran.stdout.count("it computes in float16, for which this processor has no") == 2


def all_hold(cases: Cases, count: int, processors: Sequence[str] = tuple(EMULATORS)) -> None:
    """Every case gives what it should, on these processors."""
    for kernels in processors:
        emulator = EMULATORS[kernels]
        words = [*emulator, built() / "plan_cases", cases.folder, "2"]
        ran = subprocess.run(words, capture_output=True, text=True)
        assert ran.stdout == f"{count} hold, 0 fail\n", kernels + ran.stdout + ran.stderr
