"""XNNPACK, through the runtime of ExecuTorch.

ExecuTorch compiles torch programs, not ONNX files. It therefore looks for the compiled program
beside the ONNX file, under the same name with the suffix `.pte`; `write_pte` makes one.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
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
    from torch import Tensor
    from torch.export import ExportedProgram

__all__ = ["Xnnpack", "write_pte"]


def write_pte(
    program: ExportedProgram, path: Path, samples: Sequence[tuple[Tensor, ...]] | None = None
) -> None:
    """Compile a torch program for XNNPACK; takes up to a minute.

    Args:
        program: `torch.export.export(model, (example_input,))` of the network in the ONNX file.
        path: the file to write: the ONNX file's name with the suffix `.pte`.
        samples: inputs to calibrate with; given, the program becomes int8 by ExecuTorch's own
            quantiser, with a scale for each channel of a weight, to set beside a quantised ONNX
            file of the network.

    Raises:
        ActivsparseError: no samples in `samples`.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    with _quiet():
        if samples is not None:
            program = _quantised(program, samples, path)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        compiled = lowered.to_executorch()
    with atomic_path(path) as temporary:
        temporary.write_bytes(compiled.buffer)


def _quantised(
    program: ExportedProgram, samples: Sequence[tuple[Tensor, ...]], path: Path
) -> ExportedProgram:
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    if not samples:
        raise ActivsparseError(f"{path}: no samples to calibrate with; give some")
    quantizer = XNNPACKQuantizer()
    quantizer.set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(program.module(), quantizer)
    with torch.no_grad():
        for sample in samples:
            prepared(*sample)
    return torch.export.export(convert_pt2e(prepared), samples[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Every operator that is left to the portable kernels is told; keep that to ourselves."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


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
