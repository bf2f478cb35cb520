"""Detectors of the ultralytics package, where somebody has installed it; nothing here needs it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from activsparse import Session
from activsparse.export.onnx import export_onnx
from activsparse.train import Sparsifier

tasks = pytest.importorskip("ultralytics.nn.tasks")

SIZE = 64


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov5n", "yolov8n", "yolo11n"])
def test_masked_exported_and_run(name, tmp_path):
    torch.manual_seed(0)
    model = tasks.DetectionModel(f"{name}.yaml", nc=10, verbose=False).eval()
    model.model[-1].export, model.model[-1].format = True, "onnx"
    example = torch.rand(1, 3, SIZE, SIZE)
    sparsifier = Sparsifier(model, example, sparsity=0.3, pattern="lattice")
    assert abs(sparsifier.achieved_sparsity - 0.3) < 0.1
    file = tmp_path / "model.onnx"
    export_onnx(model, example, file)
    ours = Session(file, threads=1)
    found = ours.run(example.numpy())
    (expected,) = onnxruntime.InferenceSession(str(file)).run(
        None, {ours.inputs[0][0]: example.numpy()}
    )
    # Boxes are in pixels; a distribution's softmax spreads what rounding does to a dozen layers.
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4 * SIZE)
