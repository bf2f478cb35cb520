"""OpenVINO's CPU plugin, held to what a file says: by default it computes in bf16 where it can."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np
import openvino

from activsparse.bench.engines.base import Array, Engine
from activsparse.errors import ActivsparseError

__all__ = ["OpenVino"]


class OpenVino(Engine):
    """One inference request, tuned for latency."""

    name = "openvino"

    def __init__(self, path: Path, threads: int, input_shapes: Sequence[tuple[int, ...]]) -> None:
        properties = {
            "INFERENCE_NUM_THREADS": threads,
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": "f32",
        }
        try:
            core = openvino.Core()
            graph = core.read_model(str(path))
            graph.reshape({i: list(shape) for i, shape in enumerate(input_shapes)})
            model = core.compile_model(graph, "CPU", properties)
        except RuntimeError as error:
            raise ActivsparseError(f"{path}: OpenVINO cannot load it: {error}") from error
        self.request = model.create_infer_request()
        self.outputs = len(model.outputs)

    @staticmethod
    def version() -> str:
        """Version of openvino."""
        return version("openvino")

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """See `Engine.run`. Inputs are shared, not copied; outputs are copied, as ours are."""
        result = self.request.infer(dict(enumerate(inputs)), share_inputs=True)
        return [np.asarray(result[index]) for index in range(self.outputs)]
