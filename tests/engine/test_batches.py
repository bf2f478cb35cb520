"""Batches and image sizes: one file with an open batch dimension, against ONNX Runtime."""

import numpy as np
import onnx
import onnxruntime
import pytest

from activsparse import Session
from activsparse.engine.tolerance import network_bound, sums_of
from activsparse.export.mask import mask_model
from activsparse.export.onnx import export_onnx


@pytest.fixture(scope="module", params=["resnet18", "mobilenet_v2"])
def paths(request, tmp_path_factory, build):
    """A dense file and masked ones, for images of an odd size."""
    folder = tmp_path_factory.mktemp(request.param)
    import torch

    model, x = build(request.param, 64), torch.randn(2, 3, 72, 56)
    made = [folder / "dense.onnx"]
    export_onnx(model, x, made[0], dynamic_batch=True, verify=False)
    for pattern, fill in (("auto", "zero"), ("random", "nearest")):
        masked, _ = mask_model(onnx.load(made[0]), 0.3, pattern=pattern, fill=fill)
        made.append(folder / f"{pattern}.onnx")
        onnx.save(masked, made[-1])
    return made


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_batches(paths, batch):
    rng = np.random.default_rng(batch)
    for path in paths:
        oracle = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        name = oracle.get_inputs()[0].name
        x = rng.standard_normal((batch, 3, 72, 56), np.float32)
        (expected,) = oracle.run(None, {name: x})
        for options in ({}, {"threads": 2, "winograd": False}):
            session = Session(path, input_shapes={name: x.shape}, **options)
            error = np.abs(session.run(x) - expected).max()
            bound = network_bound(sums_of(session.explain()), expected)
            assert 0 < error <= bound, (path.name, batch, options, error, bound)
