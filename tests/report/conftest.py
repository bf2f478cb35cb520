from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from activsparse.bench.compare import Comparison, Row, summarize
from activsparse.masks.exact import DenseMask, TilesMask
from activsparse.masks.mask_plan import MaskPlan, PlannedLayer
from activsparse.masks.shape import ConvShape
from activsparse.report import Difference, Layer, Loss, Report, Variant

LAYERS = [
    f"layer{stage}.{block}.conv{i}" for stage in (1, 2, 3) for block in (0, 1) for i in (1, 2)
]


def row(model: str, engine: str, median_ms: float) -> Row:
    variant = "dense" if model == "dense.onnx" else "sparse"
    return Row(
        model, engine, "1.0", variant, 1, median_ms, 0.02 * median_ms, median_ms, 1e-6, [median_ms]
    )


def sparse_variant(name: str, model: str, top1: float, achieved: float) -> Variant:
    rng = np.random.default_rng(0)
    sizes = [32] * 4 + [16] * 4 + [8] * 4
    return Variant(
        name,
        model,
        top1,
        0.3,
        [Layer(n, "direct", 0.3, achieved + 0.01 * i, 0.01, "") for i, n in enumerate(LAYERS)],
        {n: rng.random((s, s)) > 0.3 for n, s in zip(LAYERS, sizes, strict=True)},
    )


@pytest.fixture
def report() -> Report:
    """A made-up report: its figures were measured nowhere."""
    times = {
        "dense.onnx": {"activsparse": 0.5, "onnxruntime": 0.62, "openvino": 0.6},
        "paper.onnx": {"activsparse": 0.4, "onnxruntime": 0.65, "openvino": 0.66},
        "tiles.onnx": {"activsparse": 0.3, "onnxruntime": 0.64, "openvino": 0.63},
    }
    rows = [row(m, e, t) for m, engines in times.items() for e, t in engines.items()]
    best, ratios = summarize(rows)
    machine = {
        "cpu": "Test <CPU>",
        "architecture": "x86_64",
        "cores": 2,
        "affinity": [1],
        "caches": {"L1d": "32K", "L2": "1024K"},
        "governor": None,
        "instruction_sets": ["scalar", "avx2"],
        "versions": {"activsparse": "0.0", "numpy": "2.0"},
    }
    images = np.random.default_rng(1).random((4, 32, 32), dtype=np.float32)
    return Report(
        title="Digits & masks",
        summary="A test of the report.",
        variants=[
            Variant("dense", "dense.onnx", 0.981),
            sparse_variant("paper 0.3", "paper.onnx", 0.962, 0.28),
            sparse_variant("tiles 0.3", "tiles.onnx", 0.977, 0.25),
        ],
        comparison=Comparison(machine, rows, best, ratios),
        images=list(images),
        settings={"epochs": "3"},
    )


@pytest.fixture
def whole_report(report: Report) -> Report:
    """The same with everything there can be: times, answers, a plan, sensitivities, differences."""
    rng = np.random.default_rng(2)
    labels = rng.integers(0, 3, 50)
    variants = [
        replace(
            variant,
            times_ms={name: float(ms) for name, ms in zip(LAYERS, rng.random(12), strict=True)},
            said=np.where(rng.random(50) < 0.8, labels, rng.integers(0, 3, 50)),
        )
        for variant in report.variants
    ]
    conv = ConvShape((3, 3), (1, 1), 1, 8, 8, (16, 16))
    plan = MaskPlan(
        (32, 32),
        {
            "conv1": PlannedLayer(conv, DenseMask()),
            "conv2": PlannedLayer(conv, TilesMask(6, 9, 4), ms=0.1, loss=0.02),
        },
        notes={"speedup": 1.4, "speedup_is": "measured", "loss": 0.3, "dense_loss": 0.2},
    )
    variants[-1] = replace(variants[-1], plan=plan)
    return replace(
        report,
        variants=variants,
        labels=labels,
        classes=["cats", "dogs", "b<>s"],
        differences=[Difference(report.images[0], "cats", "dogs", "b<>s", "paper 0.3")],
        losses=[Loss(name, share, 0.1 * share) for name in LAYERS for share in (0.2, 0.5)],
    )
