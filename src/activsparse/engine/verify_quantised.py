"""The engine on quantised files, against ONNX Runtime and against exact arithmetic.

Two right engines may round a value that lies at a boundary to either side, and what follows then
differs by more than rounding of real numbers would explain; and ONNX Runtime's products of 8 bits
saturate on processors without VNNI. docs/numerics.md, "Quantised networks".
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx

from activsparse.engine.exact import ExactModel
from activsparse.engine.exact.span import Span
from activsparse.onnx_file import quantised, read_model

if TYPE_CHECKING:
    from activsparse.engine.verify import OutputError

__all__ = ["ExactReference", "is_quantised", "onnxruntime_settings"]

FloatArray = npt.NDArray[np.floating[Any]]

CHOICE = 2.0**-6
"""Steps from a boundary within which a value may be rounded to either side."""

_DRAWS = 8
_TIMES = 4
"""How far beyond the most that the draws give the largest error may be."""

_TYPICAL_TIMES = 2
"""The same of errors in root mean square, which vary less."""


def is_quantised(path: str | os.PathLike[str]) -> bool:
    """Whether an ONNX file holds quantised operators.

    Raises:
        ActivsparseError: it cannot be read.
    """
    return any(quantised(node.op_type) for node in _graph(path).node)


def onnxruntime_settings(path: str | os.PathLike[str]) -> dict[str, str]:
    """Entries for ONNX Runtime's session with which products of 8 bits do not saturate.

    Without VNNI it adds pairs of them in 16 bits. It has other kernels for uint8 values, none for
    int8 ones; there exact arithmetic has to decide.
    """
    graph = _graph(path)
    types = {tensor.name: tensor.data_type for tensor in graph.initializer}
    signed = any(
        types.get(name) == onnx.TensorProto.INT8
        for node in graph.node
        if quantised(node.op_type) and node.op_type != "DequantizeLinear"
        for name in node.input[_ZERO_POINTS.get(node.op_type, slice(0))]
    )
    return {} if signed else {"session.x64quantprecision": "1"}


def _graph(path: str | os.PathLike[str]) -> onnx.GraphProto:
    # Those of other domains too: ONNX Runtime's quantiser writes some.
    return read_model(path, weights=False, foreign=True).graph


# Where operators have the zero points of what is no weight.
_ZERO_POINTS = {
    "QuantizeLinear": slice(2, 3),
    "QLinearConv": slice(2, 3),
    "QLinearMatMul": slice(2, 3),
}


class ExactReference:
    """A quantised file in exact arithmetic.

    Args:
        path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        model = onnx.load(path)
        self._exact = ExactModel(model)
        self._steps = _steps(model)

    def decide(
        self,
        x: Mapping[str, FloatArray],
        rows: Sequence[OutputError],
        actual: Sequence[FloatArray],
        expected: Sequence[FloatArray],
        sums: Iterable[float],
        choice: float = CHOICE,
    ) -> list[OutputError]:
        """Judge outputs that are not ONNX Runtime's to the last digits.

        Args:
            x: the inputs.
            rows: compared with ONNX Runtime's.
            actual: the engine's outputs.
            expected: ONNX Runtime's.
            sums: as of `tolerance.network_bound`.
            choice: steps from a boundary within which this engine may round to either side.

        Returns:
            The rows with the error against exact arithmetic and its bound: a step of the output's
            own rounding, and several times what random choices at boundaries make of it; a problem
            where mean or root mean square are beyond those of such choices. As they were where onnx
            has no reference for one of the operators.
        """
        try:
            truths = self._exact.run(x)
            drawn = [
                self._exact.run(x, slack=choice, jitter=np.random.default_rng(seed))
                for seed in range(_DRAWS)
            ]
        except (NotImplementedError, ValueError, RuntimeError):
            return list(rows)
        decided = []
        for row, ours, theirs in zip(rows, actual, expected, strict=True):
            truth = _real(truths[row.name])
            if row.holds or row.problem or truth.shape != ours.shape:
                decided.append(row)
                continue
            step = self._steps.get(row.name, 0.0)
            choices = [_real(draw[row.name]) - truth for draw in drawn]
            judged = replace(
                row,
                max_abs_err=_largest(ours - truth),
                bound=row.bound + step + _TIMES * max(map(_largest, choices)),
                reference_max=_largest(truth),
                note=f"against exact arithmetic; ONNX Runtime's {_largest(theirs - truth):.3g}",
            )
            for name, measure, share in _TYPICAL:
                found, drawn_most = measure(ours - truth), max(map(measure, choices))
                allowed = row.bound + step * share + _TYPICAL_TIMES * drawn_most
                if judged.holds and found > allowed:
                    problem = f"too many values differ: by {found:.3g} in {name}, where roundings "
                    judged = replace(judged, problem=f"{problem}come to {allowed:.3g}")
            decided.append(judged)
        return decided


def _real(span: Span) -> FloatArray:
    return span.low.astype(np.float64)


def _largest(error: FloatArray) -> float:
    return float(np.max(np.abs(error), initial=0.0))


def _typical(error: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(error)))) if error.size else 0.0


def _mean(error: FloatArray) -> float:
    return float(np.abs(np.mean(error))) if error.size else 0.0


# Of an output's values one in sixteen may be a step off besides.
_TYPICAL = (("root mean square", _typical, 1 / 4), ("mean", _mean, 1 / 16))


def _steps(model: onnx.ModelProto) -> dict[str, float]:
    """The step of each output that a DequantizeLinear writes, or that is quantised itself."""
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    producers = {name: node for node in model.graph.node for name in node.output}
    steps = {}
    for value in model.graph.output:
        node = producers.get(value.name)
        if node is not None and node.op_type == "DequantizeLinear":
            scale = constants.get(node.input[1])
            steps[value.name] = 0.0 if scale is None else float(np.max(np.abs(scale)))
        elif value.type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
            steps[value.name] = 1.0
    return steps
