"""ONNX Runtime as what the engine is compared with, and double precision as what decides."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from activsparse.engine.session import Session
from activsparse.engine.verify_quantised import (
    ExactReference,
    is_quantised,
    onnxruntime_settings,
)
from activsparse.errors import ActivsparseError
from activsparse.onnx_file.bodies import bodies

__all__ = ["Reference"]

FloatArray = npt.NDArray[np.floating[Any]]

_FORGETTING = frozenset(
    {
        *("And", "ArgMax", "ArgMin", "Cast", "Equal", "Greater", "GreaterOrEqual", "Less"),
        *("LessOrEqual", "NonMaxSuppression", "Not", "Or", "ThresholdedRelu", "TopK", "Where"),
        "Xor",
    }
)
"""What makes a number of NaN: comparisons, above all."""

_DOUBLE = "tensor(double)"
_LARGE = 2**31 - 1
"""Bytes that protobuf no longer writes in one piece."""


class Reference:
    """ONNX Runtime, on the file as it is for normal inputs, unoptimised for the others."""

    def __init__(self, path: str | os.PathLike[str], session: Session) -> None:
        """Of a file, for the outputs and the threads of a session.

        Raises:
            ActivsparseError: onnxruntime is not installed.
        """
        try:
            import onnxruntime
        except ImportError as error:
            raise ActivsparseError(
                "verifying needs onnxruntime, which is not installed; "
                "pip install 'activsparse[bench]'"
            ) from error
        self._runtime = onnxruntime
        self.path = os.fspath(path)
        self._threads = session.threads
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._file = self.path
        ends = (*session.get_inputs(), *session.get_outputs())
        if any(value.type == _DOUBLE for value in ends) and not self._takes_file():
            # ONNX Runtime has no convolution in double precision, so no such file runs there.
            self._folder = tempfile.TemporaryDirectory()
            self._file = _in_single(self.path, self._folder.name)
        self._names = [name for name, _ in session.outputs]
        self._sessions: dict[bool, Any] = {}
        reports = session.explain()
        # Winograd's tiles share NaN, and ONNX Runtime's maximum forgets them.
        self.spreads = any(
            "winograd" in r.algorithm or "max_pool" in r.kind or r.algorithm == "onnxruntime"
            for r in reports
        )
        self.foreign = any(r.algorithm == "onnxruntime" for r in reports)
        self.winograd = any("winograd" in r.algorithm for r in reports)
        operators = _operators(path)
        # Where Winograd's tiles share a NaN, these give a number that the definition does not.
        self.forgets = self.winograd and (self.foreign or bool(operators & _FORGETTING))
        self.masked = False
        # Of an even picture all boxes score alike, and any engine's roundings choose among them.
        self.chooses = bool(operators & {"NonMaxSuppression", "TopK"})
        self.exact = ExactReference(path) if is_quantised(path) else None

    def run(self, x: Mapping[str, FloatArray], optimised: bool) -> list[FloatArray]:
        """The outputs.

        Args:
            x: the inputs by name.
            optimised: as the file is run by everybody; else operator by operator, by definition.

        Raises:
            ActivsparseError: ONNX Runtime cannot run the file.
        """
        try:
            session = self._session(optimised)
            outputs: list[FloatArray] = session.run(self._names, self._feed(x))
        except Exception as error:  # ONNX Runtime's exception types share no narrower base
            cause = str(error).splitlines()[0]
            raise ActivsparseError(f"{self.path}: ONNX Runtime cannot run it: {cause}") from error
        return outputs

    def with_weights_moved(
        self, share: float, rng: np.random.Generator, x: Mapping[str, FloatArray]
    ) -> list[FloatArray]:
        """The outputs with weights that are each off by a random share of themselves.

        Raises:
            ActivsparseError: the file is too large.
        """
        from google.protobuf.message import EncodeError

        from activsparse.engine.drawn_weights import with_drawn_weights

        try:
            model = with_drawn_weights(self._file, share, rng).SerializeToString()
        except (ValueError, EncodeError) as error:
            raise ActivsparseError(
                f"{self.path}: is too large to be verified with other weights; verify it with "
                "weights in float32"
            ) from error
        session = self._runtime.InferenceSession(
            model, self._options(), providers=["CPUExecutionProvider"]
        )
        outputs: list[FloatArray] = session.run(self._names, self._feed(x))
        return outputs

    def _feed(self, x: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        if self._folder is None:
            return dict(x)
        return {k: v.astype(np.float32) if v.dtype == np.float64 else v for k, v in x.items()}

    def _takes_file(self) -> bool:
        try:
            self._runtime.InferenceSession(
                self.path, self._options(), providers=["CPUExecutionProvider"]
            )
        except Exception:  # ONNX Runtime's exception types share no narrower base
            return False
        return True

    def _options(self) -> Any:
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 4
        return options

    def _session(self, optimised: bool) -> Any:
        if optimised not in self._sessions:
            from activsparse.engine.oracle import with_masks_as_choices

            options = self._options()
            if self.exact is not None and optimised:
                for entry in onnxruntime_settings(self.path).items():
                    options.add_session_config_entry(*entry)
            model: str | bytes = self._file
            if not optimised:
                # The definition, operator by operator.
                levels = self._runtime.GraphOptimizationLevel
                options.graph_optimization_level = levels.ORT_DISABLE_ALL
                model, self.masked = with_masks_as_choices(self._file)
            self._sessions[optimised] = self._runtime.InferenceSession(
                model, options, providers=["CPUExecutionProvider"]
            )
        return self._sessions[optimised]

    def in_double(
        self,
        x: Mapping[str, FloatArray],
        share: float = 0.0,
        rng: np.random.Generator | None = None,
    ) -> list[FloatArray] | None:
        """The outputs in double precision, of weights moved as above where there is an `rng`.

        None where onnx has no reference for the model's operators.
        """
        from activsparse.engine.drawn_weights import with_drawn_weights
        from activsparse.engine.oracle import in_double

        model = self.path if rng is None else with_drawn_weights(self.path, share, rng)
        return in_double(model, self._names, x)


def _in_single(path: str, folder: str) -> str:
    """Write a copy that computes in float32 where the file does in float64; return its name."""
    import onnx

    from activsparse.onnx_file.retype import retype

    model = onnx.load(path)
    retype(model.graph, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT)
    copy = Path(folder) / Path(path).name
    onnx.save(model, copy, save_as_external_data=model.ByteSize() >= _LARGE)
    return str(copy)


def _operators(path: str | os.PathLike[str]) -> set[str]:
    """The types of all nodes of a model."""
    import onnx

    def of(graph: onnx.GraphProto) -> set[str]:
        inner = (body for node in graph.node for body in bodies(node))
        return {node.op_type for node in graph.node}.union(*map(of, inner))

    return of(onnx.load(path, load_external_data=False).graph)
