"""The example of docs/quantisation.md runs, and its weights are what was trained."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
import pytest
import torch

from activsparse.export.insert import find_masks

TEXT = (Path(__file__).parents[2] / "docs" / "quantisation.md").read_text()


@pytest.mark.slow
def test_the_python_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"^```python\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    names: dict = {"__name__": "quantisation"}
    try:
        exec(block, names)
    finally:
        torch.set_num_threads(threads)
    model = onnx.load("tuned.int8.onnx")
    assert len(find_masks(model.graph)) == names["result"].masks > 0
    assert min(names["result"].difference.snr_db.values()) > 20
    for layer in names["layers"]:
        weight = layer.weight.detach()
        # Whole steps: at most 255 values in each channel.
        steps = weight.flatten(1) / (weight.flatten(1).abs().amax(1, keepdim=True) / 127)
        assert (steps - steps.round()).abs().max() < 1e-2
        assert not hasattr(layer, "values_in_steps")
