"""A model in the form a quantiser wants: norms folded, shapes known, an operator set that can."""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import onnx

from activsparse import onnx_file
from activsparse.errors import ActivsparseError
from activsparse.export.graph import GraphIndex
from activsparse.onnx_file.check import title

__all__ = ["LAYERS", "layer_names", "prepared", "quiet"]

LAYERS = ("Conv", "Gemm", "MatMul", "ConvTranspose")
"""Operators with weights."""

_OPSET = 13  # the first in which channels have scales of their own


def prepared(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return a model with folded norms and inferred shapes.

    Args:
        model: as `export.model_file.read_model` gives it; not changed.
        name: of its file, for messages.

    Raises:
        ActivsparseError: it is quantised already, has no layer with weights, or is of an operator
            set that cannot be brought up to date.
    """
    from onnxruntime.quantization import quant_pre_process

    for node in model.graph.node:
        if onnx_file.quantised(node.op_type):
            raise ActivsparseError(
                f"{name}: {title(node)}: is quantised already; name the float32 model"
            )
    onnx_file.check_accepted(model, name)
    if not any(node.op_type in LAYERS for node in model.graph.node):
        raise ActivsparseError(
            f"{name}: has no convolution or other layer with weights; there is nothing to quantise"
        )
    current = _with_names(_up_to_date(model, name))
    with tempfile.TemporaryDirectory() as folder, quiet():
        source, target = Path(folder) / "model.onnx", Path(folder) / "prepared.onnx"
        try:
            onnx.save(current, source)
            # Symbolic shapes are for transformers, and need another package.
            quant_pre_process(str(source), str(target), skip_symbolic_shape=True)
            result = onnx.load(target)
        except Exception as error:  # ONNX Runtime's exception types share no narrower base
            cause = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ActivsparseError(
                f"{name}: ONNX Runtime cannot prepare it ({cause}); export the model again"
            ) from error
    return onnx.shape_inference.infer_shapes(result)


def _up_to_date(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    opset = onnx_file.read.opset_of(model, name)
    if opset >= _OPSET:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        return copy
    try:
        return onnx.version_converter.convert_version(model, _OPSET)
    except Exception as error:  # whatever the converter makes of what it does not know
        raise ActivsparseError(
            f"{name}: is of operator set {opset}, and {_OPSET} is the first that can be quantised "
            f"by channels; export it with opset {_OPSET} or newer"
        ) from error


def _with_names(model: onnx.ModelProto) -> onnx.ModelProto:
    """Nodes are told apart by names, which they need not have."""
    taken: set[str] = set()
    for node in model.graph.node:
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}:{node.output[0]}"
        taken.add(node.name)
    return model


def layer_names(graph: onnx.GraphProto) -> dict[str, str]:
    """The layers: each node's name, and what it is called: after its weight, or as the node."""
    index = GraphIndex(graph)
    found: dict[str, str] = {}
    taken: set[str] = set()
    for node in graph.node:
        if node.op_type not in LAYERS or index.constant(node.input[1]) is None:
            continue
        module = node.input[1].removesuffix(".weight")
        known = module if module != node.input[1] and module not in taken else node.name
        taken.add(known)
        found[node.name] = known
    return found


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep to ourselves what the quantiser prints and logs: advice that is already followed."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(level)
