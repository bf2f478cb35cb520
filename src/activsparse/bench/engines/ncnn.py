"""ncnn in float32 with its Winograd on; the ONNX file is converted by its companion tool pnnx."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import ncnn
import numpy as np
import onnx
import pnnx

from activsparse.bench.engines.base import Array, Engine
from activsparse.bench.engines.sampled_fills import sample_fills
from activsparse.errors import ActivsparseError, Option

__all__ = ["Ncnn"]

# How pnnx notes the index of a Gather by a list, of which its conversion takes one entry.
_LIST = re.compile(r"^Tensor\.select .* index=\(", re.MULTILINE)


class Ncnn(Engine):
    """`ncnn.Net` without the half-precision shortcuts it takes by default."""

    name = "ncnn"

    def __init__(self, path: Path, threads: int, input_shapes: Sequence[tuple[int, ...]]) -> None:
        if any(shape[:1] not in ((), (1,)) for shape in input_shapes):
            raise ActivsparseError(
                f"{path}: ncnn runs batch 1 only; leave ncnn out of ",
                Option("engines"),
                ", or export batch 1",
            )
        self.net = ncnn.Net()
        self.net.opt.num_threads = threads
        self.net.opt.use_fp16_packed = False
        self.net.opt.use_fp16_storage = False
        self.net.opt.use_fp16_arithmetic = False
        self.net.opt.use_bf16_storage = False
        with tempfile.TemporaryDirectory() as folder:
            model = _convert(path, Path(folder), input_shapes)
            failed = self.net.load_param(f"{model}.ncnn.param")
            if failed or self.net.load_model(f"{model}.ncnn.bin"):
                raise ActivsparseError(
                    f"{path}: ncnn has no layer for an operator in it; leave ncnn out of ",
                    Option("engines"),
                )
        self.output_names = [str(name) for name in self.net.output_names()]

    @staticmethod
    def version() -> str:
        """Version of ncnn."""
        return version("ncnn")

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """See `Engine.run`."""
        if any(x.dtype != np.float32 for x in inputs):
            raise ActivsparseError(
                "ncnn takes inputs in float32 only; leave ncnn out of ", Option("engines")
            )
        extractor = self.net.create_extractor()
        for index, x in enumerate(inputs):
            extractor.input(f"in{index}", ncnn.Mat(x[0]))
        # ncnn has no batch dimension; the outputs get theirs back.
        return [np.array(extractor.extract(name)[1])[None] for name in self.output_names]


def _convert(path: Path, folder: Path, input_shapes: Sequence[tuple[int, ...]]) -> Path:
    """Convert in `folder`, where pnnx also drops its by-products; returns the files' stem."""
    copy = folder / "model.onnx"
    model = onnx.load(path)
    sample_fills(model)
    onnx.save(model, copy)  # with weights that lie in a file of their own
    shapes = ",".join(f"[{','.join(map(str, shape))}]f32" for shape in input_shapes)
    result = subprocess.run(
        [pnnx.EXEC_PATH, copy.name, f"inputshape={shapes}", "fp16=0"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0 or not (folder / "model.ncnn.param").is_file():
        lines = (result.stderr or result.stdout).strip().splitlines() or ["no message"]
        raise ActivsparseError(
            f"{path}: pnnx cannot convert it for ncnn ({lines[-1]}); leave ncnn out of ",
            Option("engines"),
        )
    if _LIST.search((folder / "model.pnnx.param").read_text(encoding="utf-8")):
        raise ActivsparseError(
            f"{path}: pnnx keeps one position of a Gather of several, so that ncnn would compute "
            "other numbers; leave ncnn out of ",
            Option("engines"),
        )
    return folder / "model"
