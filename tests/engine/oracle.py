"""Unoptimised ONNX Runtime, which says what a file means."""

from __future__ import annotations

import numpy as np
import onnxruntime

from activsparse import Session


def expected(path, x: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, x)


def random_input(path, seed: int = 0) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rng = np.random.default_rng(seed)
    return {
        value.name: rng.standard_normal(value.shape).astype(np.float32)
        for value in session.get_inputs()
    }


def check(path, x=None, context: object = "", want=None, **options) -> None:
    """The engine gives what the oracle does, in shape and type too."""
    x = random_input(path) if x is None else x
    got = Session(path, **options).run(x)
    got = got if isinstance(got, list) else [got]
    for i, (ours, theirs) in enumerate(zip(got, want or expected(path, x), strict=True)):
        message = f"{context} output {i} of {path}"
        assert ours.dtype == theirs.dtype, message
        assert ours.shape == theirs.shape, message
        # Roundings are those of the largest sums, wherever a small one comes of them.
        atol = 1e-5 if theirs.dtype.kind != "f" else 1e-5 * max(1.0, _largest(theirs) / 2)
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=atol, err_msg=message)


def _largest(values: np.ndarray) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(finite.max()) if finite.size else 0.0
