"""ONNX Runtime's CPU provider, all graph optimisations on: also the reference for the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from activsparse.bench.engines.base import Array, Engine
from activsparse.engine.border import numpy_type
from activsparse.engine.verify_quantised import onnxruntime_settings
from activsparse.errors import ActivsparseError, Option
from activsparse.onnx_file import read_model

__all__ = ["OnnxRuntime", "static_input_shapes"]


def _session(path: Path, threads: int, exact: bool = False) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Its worker threads spin between runs; while another engine is timed they must not.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if exact:
        for entry in onnxruntime_settings(path).items():
            options.add_session_config_entry(*entry)
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own exception types share no narrower base
        read_model(path, foreign=True)  # says what is wrong, and what to do, if it is the file
        raise ActivsparseError(f"{path}: ONNX Runtime cannot load it: {error}") from error
    if not session.get_outputs():
        raise ActivsparseError(f"{path}: has no outputs; export it again")
    return session


def static_input_shapes(
    path: Path, given: Mapping[str, tuple[int, ...]] | None = None
) -> list[tuple[int, ...]]:
    """Shapes of a model's inputs, in graph order; an open batch size counts as 1.

    Args:
        path: the ONNX file.
        given: shapes of inputs that the file leaves open, by name.

    Raises:
        ActivsparseError: a dimension is not fixed, or ONNX Runtime cannot load the file.
    """
    shapes = []
    for tensor in _session(path, 1).get_inputs():
        shape = tuple((given or {}).get(tensor.name, tensor.shape))
        if shape and not isinstance(shape[0], int):
            shape = (1, *shape[1:])
        if 0 in shape:
            raise ActivsparseError(
                f"{path}: input {tensor.name!r} has a size of 0, so there is nothing to compute; "
                "export with other sizes"
            )
        if not all(isinstance(size, int) and size > 0 for size in shape):
            raise ActivsparseError(
                f"{path}: input {tensor.name!r} has the dynamic shape {tensor.shape}; "
                "give its sizes, for example ",
                Option("input_shapes", {tensor.name: (1, 3, 224, 224)}),
                ", or export the model with fixed sizes",
            )
        shapes.append(shape)
    return shapes


class OnnxRuntime(Engine):
    """`onnxruntime.InferenceSession`."""

    name = "onnxruntime"

    def __init__(
        self,
        path: Path,
        threads: int,
        input_shapes: Sequence[tuple[int, ...]],
        exact: bool = False,
    ) -> None:
        """See `Engine`.

        Args:
            path: the ONNX file.
            threads: worker threads, the calling one included.
            input_shapes: shape of every graph input, in graph order.
            exact: let no sum of 8-bit products saturate where there is no VNNI, at a price.
        """
        self.path = path
        self.session = _session(path, threads, exact)
        self.input_names = [tensor.name for tensor in self.session.get_inputs()]

    @staticmethod
    def version() -> str:
        """Version of onnxruntime."""
        return str(onnxruntime.__version__)

    def input_types(self) -> list[np.dtype[Any]]:
        """Types of the model's inputs, in graph order.

        Raises:
            ActivsparseError: of one there are no numbers in arrays.
        """
        types = []
        for tensor in self.session.get_inputs():
            dtype = numpy_type(tensor.type)
            if dtype is None or dtype.kind not in "fiub":
                raise ActivsparseError(
                    f"{self.path}: input {tensor.name!r} is a {tensor.type}; only numbers are timed"
                )
            types.append(dtype)
        return types

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """See `Engine.run`."""
        feeds = dict(zip(self.input_names, inputs, strict=True))
        try:
            return list(self.session.run(None, feeds))
        except Exception as error:  # as above
            cause = str(error).splitlines()[0]
            raise ActivsparseError(
                f"{self.path}: ONNX Runtime cannot run it on random inputs: {cause}"
            ) from error
