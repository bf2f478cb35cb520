from __future__ import annotations

import numpy as np
import pytest

from activsparse.bench.compare import Comparison, Row, summarize
from activsparse.report import Layer, Report, Variant

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
