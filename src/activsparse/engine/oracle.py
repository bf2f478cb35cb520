"""What a model computes by its definition: ONNX Runtime on odd inputs, and float64."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import EncodeError
from onnx import TensorProto, helper, numpy_helper

from activsparse.onnx_file.retype import retype

__all__ = ["in_double", "with_masks_as_choices"]

FloatArray = npt.NDArray[np.floating[Any]]
_WHERE = 9  # the opset that has it


def with_masks_as_choices(path: str | os.PathLike[str]) -> tuple[str | bytes, bool]:
    """Return a model whose masked positions are zero even where they would hold NaN.

    A mask is a Mul by zeros and ones of shape (1, 1, H, W), and zero times NaN is NaN. As a Where
    it gives what the engine gives: docs/numerics.md, "NaN and infinity".

    Returns:
        The serialised model (the path itself where there are no masks, or where it is too large to
        serialise), and whether it has masks, of either fill, or may have.
    """
    model = onnx.load(path)
    graph = model.graph
    if any(o.version < _WHERE for o in model.opset_import if o.domain in ("", "ai.onnx")):
        return os.fspath(path), True
    constants = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    changed, fills = False, False
    for index, node in enumerate(graph.node):
        fills |= node.op_type == "Gather" and node.input[1] in constants
        if node.op_type != "Mul":
            continue
        for data, factor in (node.input, reversed(node.input)):
            mask = _mask(constants.get(factor))
            if mask is None:
                continue
            name = f"{node.output[0]}.chosen_{index}"
            graph.initializer.append(numpy_helper.from_array(mask.astype(bool), name))
            graph.initializer.append(numpy_helper.from_array(mask.dtype.type(0), f"{name}_zero"))
            node.CopyFrom(
                helper.make_node("Where", [name, data, f"{name}_zero"], node.output, node.name)
            )
            changed = True
            break
    if not changed:
        return os.fspath(path), fills
    model.ir_version = max(model.ir_version, 4)  # from there on constants need not be inputs
    try:
        return model.SerializeToString(), True
    except (ValueError, EncodeError):  # beyond 2 GB
        return os.fspath(path), True


def _mask(constant: onnx.TensorProto | None) -> npt.NDArray[Any] | None:
    if constant is None or len(constant.dims) != 4 or tuple(constant.dims[:2]) != (1, 1):
        return None
    value = numpy_helper.to_array(constant)
    return value if value.size > 1 and np.isin(value, (0, 1)).all() else None


def in_double(
    model: str | os.PathLike[str] | onnx.ModelProto,
    names: Sequence[str],
    feed: Mapping[str, FloatArray],
) -> list[FloatArray] | None:
    """Evaluate a float32 model in double precision, slowly.

    Args:
        model: its file, or the model itself, which is changed.
        names: of the outputs wanted.
        feed: the inputs by name.

    Returns:
        The outputs, float64 in place of float32; None where onnx has no reference for one of the
        operators.
    """
    from onnx.reference import ReferenceEvaluator
    from onnx.reference.op_run import OpRun

    class GlobalMaxPool(OpRun):
        """onnx's own gives fewer axes than it gets where there are not four."""

        def _run(self, x: npt.NDArray[Any]) -> tuple[npt.NDArray[Any]]:
            return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)

    class BatchNormalization(OpRun):
        """onnx's own mixes in the batch's moments before opset 14, and before 9 gives a tuple."""

        def _run(
            self, x: npt.NDArray[Any], *tables: npt.NDArray[Any], **attributes: Any
        ) -> tuple[npt.NDArray[Any]]:
            spread = (-1,) + (1,) * (x.ndim - 2) if attributes.get("spatial", 1) else x.shape[1:]
            scale, bias, mean, variance = (table.reshape(spread) for table in tables)
            epsilon = attributes.get("epsilon")
            deviation = np.sqrt(variance + (1e-5 if epsilon is None else epsilon))
            return ((x - mean) / deviation * scale + bias,)

    if not isinstance(model, onnx.ModelProto):
        model = onnx.load(model)
    retype(model.graph, TensorProto.FLOAT, TensorProto.DOUBLE)
    try:
        wide = {k: x.astype(np.float64) if x.dtype.kind == "f" else x for k, x in feed.items()}
        with np.errstate(over="ignore", invalid="ignore"):  # of branches it does not take
            ours = [BatchNormalization, GlobalMaxPool]
            found: Any = ReferenceEvaluator(model, new_ops=ours).run(list(names), wide)
    except Exception:  # each reference operator raises what it likes
        return None
    return (
        list(found) if all(y.dtype == np.float64 or y.dtype.kind in "iub" for y in found) else None
    )
