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
cfg = pytest.importorskip("ultralytics.cfg")

SIZE = 64


def assert_runs_as_in_onnxruntime(model, example, file):
    head = model.eval().model[-1]
    head.export, head.format = True, "onnx"
    export_onnx(model, example, file)
    ours = Session(file, threads=1)
    found = ours.run(example.numpy())
    (expected,) = onnxruntime.InferenceSession(str(file)).run(
        None, {ours.inputs[0][0]: example.numpy()}
    )
    # Boxes are in pixels; a distribution's softmax spreads what rounding does to a dozen layers.
    np.testing.assert_allclose(found, expected, rtol=2e-4, atol=2e-4 * SIZE)
    return ours, expected


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov5n", "yolov8n", "yolo11n"])
def test_masked_exported_and_run(name, tmp_path):
    torch.manual_seed(0)
    model = tasks.DetectionModel(f"{name}.yaml", nc=10, verbose=False).eval()
    example = torch.rand(1, 3, SIZE, SIZE)
    sparsifier = Sparsifier(model, example, sparsity=0.3, pattern="lattice")
    assert abs(sparsifier.achieved_sparsity - 0.3) < 0.1
    assert_runs_as_in_onnxruntime(model, example, tmp_path / "model.onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["yolov5n", "yolov8n"])
def test_trained_while_masks_move(name, tmp_path):
    torch.manual_seed(0)
    model = tasks.DetectionModel(f"{name}.yaml", nc=10, verbose=False)
    model.args = cfg.get_cfg()
    example = torch.rand(1, 3, SIZE, SIZE)
    batch = {
        "img": torch.rand(2, 3, SIZE, SIZE),
        "batch_idx": torch.tensor([0.0, 1.0, 1.0]),
        "cls": torch.tensor([[3.0], [5.0], [0.0]]),
        "bboxes": torch.tensor([[0.5, 0.5, 0.4, 0.3], [0.3, 0.3, 0.2, 0.4], [0.7, 0.6, 0.5, 0.5]]),
    }
    steps = 6
    sparsifier = Sparsifier(model, example, 0.3, pattern="random", total_steps=steps)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    for _ in range(steps):
        loss = model.train()(batch)[0].sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sparsifier.step(loss)
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert sparsifier.frozen
    ours, expected = assert_runs_as_in_onnxruntime(model, example, tmp_path / "model.onnx")
    masked = [row.name for row in ours.explain() if row.requested]
    assert len(" + ".join(masked).split(" + ")) == len(sparsifier.layers)  # some run as one
    with torch.no_grad():
        np.testing.assert_allclose(model(example).numpy(), expected, rtol=2e-4, atol=2e-4 * SIZE)
