"""ONNX files by the older of torch's exporters."""

from __future__ import annotations

import io
import warnings

import onnx
import torch


def from_script(model, x):
    """By torch's older exporter, which folds norms, spells activations out and is quicker."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (x,), file, dynamo=False, opset_version=17)
    return onnx.load_from_string(file.getvalue())
