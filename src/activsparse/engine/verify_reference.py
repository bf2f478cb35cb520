"""ONNX Runtime as what the engine is compared with, and double precision as what decides."""

from __future__ import annotations

import os
from collections.abc import Mapping
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
        self._path = os.fspath(path)
        self._threads = session.threads
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
        self.masked = False
        # Of an even picture all boxes score alike, and any engine's roundings choose among them.
        self.chooses = bool(_operators(path) & {"NonMaxSuppression", "TopK"})
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
            outputs: list[FloatArray] = self._session(optimised).run(self._names, dict(x))
        except Exception as error:  # ONNX Runtime's exception types share no narrower base
            cause = str(error).splitlines()[0]
            raise ActivsparseError(f"{self._path}: ONNX Runtime cannot run it: {cause}") from error
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
            model = with_drawn_weights(self._path, share, rng).SerializeToString()
        except (ValueError, EncodeError) as error:
            raise ActivsparseError(
                f"{self._path}: is too large to be verified with other weights; verify it with "
                "weights in float32"
            ) from error
        session = self._runtime.InferenceSession(
            model, self._options(), providers=["CPUExecutionProvider"]
        )
        outputs: list[FloatArray] = session.run(self._names, dict(x))
        return outputs

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
                for entry in onnxruntime_settings(self._path).items():
                    options.add_session_config_entry(*entry)
            model: str | bytes = self._path
            if not optimised:
                # The definition, operator by operator.
                levels = self._runtime.GraphOptimizationLevel
                options.graph_optimization_level = levels.ORT_DISABLE_ALL
                model, self.masked = with_masks_as_choices(self._path)
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

        model = self._path if rng is None else with_drawn_weights(self._path, share, rng)
        return in_double(model, self._names, x)


def _operators(path: str | os.PathLike[str]) -> set[str]:
    """The types of all nodes of a model."""
    import onnx

    def of(graph: onnx.GraphProto) -> set[str]:
        inner = (body for node in graph.node for body in bodies(node))
        return {node.op_type for node in graph.node}.union(*map(of, inner))

    return of(onnx.load(path, load_external_data=False).graph)
