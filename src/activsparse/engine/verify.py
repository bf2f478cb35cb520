"""The engine against ONNX Runtime, which knows nothing of masks."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from activsparse.engine.session import Session
from activsparse.engine.tolerance import network_bound, sums_of
from activsparse.errors import ActivsparseError

__all__ = ["OutputError", "compare_with_onnxruntime"]


@dataclass(frozen=True)
class OutputError:
    """How far one output is off, and how far it may be (tolerance.py).

    Attributes:
        name: of the output.
        max_abs_err: largest absolute difference from the reference.
        bound: what rounding explains of it.
        reference_max: largest magnitude in the reference.
    """

    name: str
    max_abs_err: float
    bound: float
    reference_max: float

    @classmethod
    def of(
        cls,
        name: str,
        actual: npt.NDArray[np.float32],
        reference: npt.NDArray[np.float32],
        sums: Iterable[float],
    ) -> OutputError:
        """Compare an output with its reference, of the same shape; `sums` as of `network_bound`."""
        return cls(
            name,
            float(np.max(np.abs(actual - reference), initial=0.0)),
            network_bound(sums, reference),
            float(np.max(np.abs(reference), initial=0.0)),
        )

    @property
    def max_rel_err(self) -> float:
        """The largest error as a share of the reference's largest magnitude.

        Not of each element, of which those near zero are all rounding. Infinite where the reference
        is zero throughout and the output is not.
        """
        if self.reference_max == 0 and self.max_abs_err > 0:
            return math.inf
        return self.max_abs_err / (self.reference_max or 1.0)

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
    x = session.random_input(seed)
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
        OutputError.of(name, y, z, sums)
        for (name, _), y, z in zip(session.outputs, actual, expected, strict=True)
    ]
