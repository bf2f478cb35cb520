"""A model of Triton's Python backend: ONNX Runtime with our execution provider.

Triton imports it in a process per instance; `activsparse` and `onnxruntime` must be installed for
that backend's Python.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import triton_python_backend_utils as pb_utils  # from Triton

import activsparse.onnxruntime


class TritonPythonModel:
    """What Triton calls."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the network and its plan, which lie beside this file."""
        folder = Path(args["model_repository"], args["model_version"])
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # instances share the cores
        activsparse.onnxruntime.add_provider(options, folder / "model.plan")
        self.session = onnxruntime.InferenceSession(folder / "model.onnx", options)
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request."""
        responses = []
        for request in requests:
            feeds = {
                name: pb_utils.get_input_tensor_by_name(request, name).as_numpy()
                for name in self.inputs
            }
            results = self.session.run(None, feeds)
            tensors = [pb_utils.Tensor(*x) for x in zip(self.outputs, results, strict=True)]
            responses.append(pb_utils.InferenceResponse(output_tensors=tensors))
        return responses
