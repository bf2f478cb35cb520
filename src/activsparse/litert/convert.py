"""ONNX models, masked or not, to .tflite files that every LiteRT runs."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from activsparse.engine.graph import Graph, NodeError
from activsparse.engine.load import load
from activsparse.engine.options import check_options
from activsparse.engine.passes import optimise
from activsparse.engine.verify import OutputError
from activsparse.engine.verify_quantised import ExactReference, is_quantised
from activsparse.errors import ActivsparseError, Option
from activsparse.files import atomic_path

__all__ = ["Converted", "compare", "convert"]

FloatArray = npt.NDArray[np.float32]

# LiteRT rounds some results twice (tables, averages, what is joined), and fixed-point factors.
_CHOICE = 0.5


@dataclass(frozen=True)
class Converted:
    """A written .tflite file.

    Attributes:
        operators: how many it has.
        bytes: its size.
        errors: of every output against ONNX Runtime; empty where nothing was compared.
    """

    operators: int
    bytes: int
    errors: list[OutputError]


def convert(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    verify: bool = True,
    fallback: str | None = None,
) -> Converted:
    """Write an ONNX model as a .tflite file with images in (N, H, W, C).

    Norms are folded and activations fused; masks stay multiplications by constants, `nearest` fills
    gathers. The file holds LiteRT's own operators only and needs no delegate. A quantised model in
    QDQ form becomes an int8 one: int8 values, int8 weights by channels, int32 biases; inputs and
    outputs stay float32.

    Args:
        path: the ONNX file.
        out: the file to write.
        input_shapes: full shapes (N, C, H, W) of inputs the file leaves open; an open batch is 1.
        verify: run both files on a random input, with LiteRT and ONNX Runtime, before writing.
        fallback: as for `Session`; the file holds no part that another engine runs, so that a
            model that needs one is refused.

    Raises:
        ActivsparseError: the model cannot be read; a node has no counterpart in LiteRT; the outputs
            differ by more than rounding explains; `out` cannot be written.
        ModuleNotFoundError: ai-edge-litert is not installed, or to verify, onnxruntime.
    """
    check_options(fallback=fallback)
    try:
        return _converted(path, out, input_shapes, verify)
    except NodeError as error:
        if fallback is None:
            raise
        raise ActivsparseError(
            f"{os.fspath(path)}: {error.node.title} would run in ONNX Runtime, and a .tflite file "
            "holds LiteRT's operators only; replace it in the model, or run the model itself with ",
            Option("fallback", fallback),
        ) from error


def _converted(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    input_shapes: Mapping[str, tuple[int, ...]] | None,
    verify: bool,
) -> Converted:
    from activsparse.litert.emit import emit

    if is_quantised(path):
        return _convert_quantised(path, out, input_shapes, verify)
    loaded = load(path, input_shapes)
    graph = optimise(loaded)
    content = emit(graph)
    errors = []
    if verify:
        errors = compare(path, content, graph, loaded.outputs)
    return _written(path, out, content, errors)


def _convert_quantised(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    input_shapes: Mapping[str, tuple[int, ...]] | None,
    verify: bool,
) -> Converted:
    """`convert` of a file in QDQ form."""
    from activsparse.litert.emit_quantised import emit_quantised
    from activsparse.litert.quantised_graph import QdqGraph
    from activsparse.onnx_file import read_model

    name = os.fspath(path)
    graph = QdqGraph(read_model(path), name, dict(input_shapes or {}))
    content = emit_quantised(graph)
    errors = []
    if verify:
        shapes = {tensor: graph.shape(tensor) for tensor in graph.inputs}
        errors = _compared(path, content, shapes, graph.outputs, [], seed=0)
    return _written(path, out, content, errors)


def _written(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    content: bytes,
    errors: list[OutputError],
) -> Converted:
    wrong = [error for error in errors if not error.holds]
    if wrong:
        why = wrong[0].problem or (
            f"differs by {wrong[0].max_abs_err:.3g}, more than rounding explains "
            f"({wrong[0].bound:.3g})"
        )
        raise ActivsparseError(
            f"{os.fspath(path)}: the .tflite file's output '{wrong[0].name}': {why}; "
            "please report this model"
        )
    with atomic_path(out) as temporary:
        temporary.write_bytes(content)
    return Converted(_operator_count(content), len(content), errors)


def compare(
    path: str | os.PathLike[str], content: bytes, graph: Graph, names: Sequence[str], seed: int = 0
) -> list[OutputError]:
    """Run a .tflite file in LiteRT and its ONNX original in ONNX Runtime on the same random input.

    Args:
        path: the ONNX file.
        content: the .tflite file.
        graph: the optimised graph it was written from.
        names: the outputs' names in the ONNX file.
        seed: of the standard normal input.

    Raises:
        ActivsparseError: ONNX Runtime cannot run the file.
    """
    sums = [
        math.prod(node.arrays["weight"].shape[1:])
        for node in graph.nodes
        if "weight" in node.arrays
    ]
    shapes = {name: graph.shape(name) for name in graph.inputs}
    return _compared(path, content, shapes, names, sums, seed)


def _compared(
    path: str | os.PathLike[str],
    content: bytes,
    shapes: Mapping[str, tuple[int, ...]],
    names: Sequence[str],
    sums: Sequence[float],
    seed: int,
) -> list[OutputError]:
    """`compare` by the shapes of inputs; of quantised files exact arithmetic decides."""
    import onnxruntime
    from ai_edge_litert.interpreter import Interpreter

    rng = np.random.default_rng(seed)
    feed = {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        oracle = onnxruntime.InferenceSession(
            os.fspath(path), options, providers=["CPUExecutionProvider"]
        )
        expected = oracle.run(list(names), feed)
    except Exception as error:  # ONNX Runtime's exception types share no narrower base
        raise ActivsparseError(
            f"{os.fspath(path)}: ONNX Runtime, which the result is compared with, cannot run it "
            f"({error}); leave the comparison out: ",
            Option("verify", False),
        ) from error
    interpreter = Interpreter(model_content=content)
    interpreter.allocate_tensors()
    for detail, x in zip(interpreter.get_input_details(), feed.values(), strict=True):
        interpreter.set_tensor(detail["index"], _to_nhwc(x))
    interpreter.invoke()
    details = interpreter.get_output_details()
    actual = [_to_nchw(interpreter.get_tensor(detail["index"])) for detail in details]
    rows = [
        OutputError.of(name, y, z, sums) for name, y, z in zip(names, actual, expected, strict=True)
    ]
    if not all(row.holds for row in rows) and is_quantised(path):
        rows = ExactReference(path).decide(feed, rows, actual, expected, sums, _CHOICE)
    return rows


def _to_nhwc(x: FloatArray) -> FloatArray:
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if x.ndim == 4 else x


def _to_nchw(x: FloatArray) -> FloatArray:
    return x.transpose(0, 3, 1, 2) if x.ndim == 4 else x


def _operator_count(content: bytes) -> int:
    from ai_edge_litert import schema_py_generated as schema

    model: Any = schema.Model.GetRootAs(content, 0)
    return int(model.Subgraphs(0).OperatorsLength())
