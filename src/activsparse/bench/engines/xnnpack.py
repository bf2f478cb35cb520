"""XNNPACK, through the runtime of ExecuTorch.

ExecuTorch compiles torch programs, not ONNX files. It therefore looks for the compiled program
beside the ONNX file, under the same name with the suffix `.pte`; `write_pte` makes one.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from executorch.extension.pybindings import portable_lib

from activsparse.bench.engines.base import Array, Engine
from activsparse.errors import ActivsparseError, Option
from activsparse.files import atomic_path

if TYPE_CHECKING:
    from torch.export import ExportedProgram

__all__ = ["Xnnpack", "write_pte"]


def write_pte(program: ExportedProgram, path: Path) -> None:
    """Compile a torch program for XNNPACK, float32; takes up to a minute.

    Args:
        program: `torch.export.export(model, (example_input,))` of the network in the ONNX file.
        path: the file to write: the ONNX file's name with the suffix `.pte`.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # every operator that is left to the portable kernels is told
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            compiled = lowered.to_executorch()
    finally:
        logging.disable(level)
    with atomic_path(path) as temporary:
        temporary.write_bytes(compiled.buffer)


class Xnnpack(Engine):
    """One ExecuTorch method; its thread pool belongs to the whole process."""

    name = "xnnpack"

    def __init__(self, path: Path, threads: int, input_shapes: Sequence[tuple[int, ...]]) -> None:
        program = path.with_suffix(".pte")
        if not program.is_file():
            raise ActivsparseError(
                f"{program}: no such file, and ExecuTorch cannot read {path.name}; make it from "
                "the torch model with activsparse.bench.engines.xnnpack.write_pte, or leave "
                "xnnpack out of ",
                Option("engines"),
            )
        # By default it takes all cores, even those that the process may not use.
        portable_lib._unsafe_reset_threadpool(threads)
        try:
            self.module = portable_lib._load_for_executorch(str(program))
        except RuntimeError as error:
            raise ActivsparseError(f"{program}: ExecuTorch cannot load it: {error}") from error

    @staticmethod
    def version() -> str:
        """Version of ExecuTorch, which brings its own XNNPACK."""
        return f"executorch {version('executorch')}"

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """See `Engine.run`; outputs are copied, as ours are."""
        outputs = self.module.forward(tuple(torch.from_numpy(x) for x in inputs))
        return [np.array(y.detach()) for y in outputs]
