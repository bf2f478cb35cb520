"""torch.compile with its default backend, Inductor, weights frozen.

It compiles torch programs, not ONNX files, and therefore looks for the program beside the ONNX
file, under the same name with the suffix `.pt2`, as `torch.export.save` writes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch._inductor.config

from activsparse.bench.engines.base import Array, Engine
from activsparse.errors import ActivsparseError, Option

__all__ = ["Inductor"]


class Inductor(Engine):
    """A compiled module; torch's number of threads belongs to the whole process."""

    name = "inductor"

    def __init__(self, path: Path, threads: int, input_shapes: Sequence[tuple[int, ...]]) -> None:
        program = path.with_suffix(".pt2")
        if not program.is_file():
            raise ActivsparseError(
                f"{program}: no such file, and torch cannot read {path.name}; write it with "
                "torch.export.save, or leave inductor out of ",
                Option("engines"),
            )
        torch.set_num_threads(threads)
        torch._inductor.config.freezing = True
        self.module: Any = torch.compile(torch.export.load(program).module())

    @staticmethod
    def version() -> str:
        """Version of torch."""
        return f"torch {torch.__version__}"

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """See `Engine.run`; outputs are copied, as ours are."""
        with torch.no_grad():
            outputs = self.module(*(torch.from_numpy(x) for x in inputs))
        single = isinstance(outputs, torch.Tensor)
        return [np.array(y) for y in ((outputs,) if single else outputs)]
