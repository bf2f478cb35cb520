"""The engine against ONNX Runtime, which knows nothing of masks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np

from activsparse.engine.session import Session
from activsparse.engine.tolerance import network_bound, sums_of
from activsparse.errors import ActivsparseError

__all__ = ["OutputError", "compare_with_onnxruntime"]


@dataclass(frozen=True)
class OutputError:
    """How far one output is off, and how far it may be (tolerance.py)."""

    name: str
    max_abs_err: float
    bound: float

    @property
    def holds(self) -> bool:
        """Whether the error is within the bound; NaN is not."""
        return self.max_abs_err <= self.bound


def compare_with_onnxruntime(
    path: str | os.PathLike[str], session: Session, seed: int = 0
) -> list[OutputError]:
    """Run both engines on the same standard normal input.

    Raises:
        ActivsparseError: onnxruntime is not installed or cannot run the file.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise ActivsparseError(
            "verifying needs onnxruntime, which is not installed; pip install 'activsparse[bench]'"
        ) from error
    rng = np.random.default_rng(seed)
    x = {name: rng.standard_normal(shape, np.float32) for name, shape in session.inputs}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = session.threads
    options.log_severity_level = 4
    try:
        oracle = onnxruntime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )
        expected: list[Any] = oracle.run([name for name, _ in session.outputs], x)
    except Exception as error:  # ONNX Runtime's exception types share no narrower base
        cause = str(error).splitlines()[0]
        raise ActivsparseError(f"{os.fspath(path)}: ONNX Runtime cannot run it: {cause}") from error
    result = session.run(x)
    actual = result if isinstance(result, list) else [result]
    sums = sums_of(session.explain())
    return [
        OutputError(name, float(np.max(np.abs(y - z), initial=0.0)), network_bound(sums, z))
        for (name, _), y, z in zip(session.outputs, actual, expected, strict=True)
    ]
