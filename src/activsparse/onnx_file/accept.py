"""What the engine runs of what a valid file may hold, as far as the file alone tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from activsparse.errors import ActivsparseError
from activsparse.onnx_file.check import STANDARD, title
from activsparse.onnx_file.read import opset_of
from activsparse.onnx_file.tensor import array_of, type_name

if TYPE_CHECKING:
    import onnx

__all__ = ["QuantisedError", "check_accepted", "quantised"]

# Opset 7 is the first whose arithmetic repeats operands by the rules of today.
_OLDEST_OPSET = 7

_QUANTISED = (
    "Quantize",
    "Dequantize",
    "DynamicQuantize",
    "QLinear",
    "ConvInteger",
    "MatMulInteger",
)

# What is brought into float32 where a model begins.
_INPUTS = (
    *("float32", "float16", "float64"),
    *("uint8", "int8", "uint16", "int16", "int32", "uint32", "int64", "uint64"),
    "bool",
)

# Up to opset 13 a BatchNormalization that has more outputs than the first one is in training mode.
_NEW_NORM_OPSET = 14


class QuantisedError(ActivsparseError):
    """A quantised model where only float32 ones are taken."""


def check_accepted(model: onnx.ModelProto, name: str, allow_quantised: bool = False) -> int:
    """Check what no export for this engine may have.

    Args:
        model: in the form of `read_model`.
        name: of its file, for messages.
        allow_quantised: pass over quantised operators, which a fallback may run.

    Returns:
        The version of the standard operators.

    Raises:
        ActivsparseError: an old operator set, inputs of a type the engine cannot convert or without
            elements, a quantised model, or one in training mode.
    """
    import onnx

    opset = opset_of(model, name)
    if opset < _OLDEST_OPSET:
        newest = onnx.defs.onnx_opset_version()
        raise ActivsparseError(
            f"{name}: operator set {opset} is not supported; "
            f"export with an opset from {_OLDEST_OPSET} to {newest} (18 is a good choice)"
        )
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant":
            value = next((a.t for a in node.attribute if a.HasField("t")), None)
            if value is not None:
                constants[node.output[0]] = value
    for value in model.graph.input:
        if value.name not in constants:
            _check_input(value, name)
    _check_weights(model.graph, constants, name)
    for node in model.graph.node:
        if node.domain in STANDARD and quantised(node.op_type) and not allow_quantised:
            raise QuantisedError(
                f"{name}: {title(node)}: the model is quantised; take the float32 model it was "
                "made of, and quantise what comes out"
            )
        if _trains(node, opset, constants, name):
            raise ActivsparseError(
                f"{name}: {title(node)} is in training mode; call model.eval() before exporting"
            )
    return opset


def _check_weights(
    graph: onnx.GraphProto, constants: dict[str, onnx.TensorProto], name: str
) -> None:
    """Weights may be stored in bfloat16, but nobody computes in it."""
    from onnx import TensorProto

    short = {key for key, value in constants.items() if value.data_type == TensorProto.BFLOAT16}
    for node in graph.node if short else ():
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") and short & {*node.input}:
            raise ActivsparseError(
                f"{name}: {title(node)} computes in bfloat16, which neither this engine nor ONNX "
                "Runtime does on a CPU; export the model in float32, as by model.float()"
            )


def quantised(op_type: str) -> bool:
    """Whether an operator belongs to quantised models."""
    return op_type.startswith(_QUANTISED)


def _check_input(value: onnx.ValueInfoProto, name: str) -> None:
    where = f"{name}: input '{value.name}'"
    kind = value.type.tensor_type
    if not value.type.HasField("tensor_type"):
        raise ActivsparseError(f"{where} is no tensor; export the model with tensors only")
    dtype = type_name(kind.elem_type) or f"of unknown data type {kind.elem_type}"
    if dtype not in _INPUTS:
        raise ActivsparseError(f"{where} is {dtype}, not float32; export the model in float32")
    if any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in kind.shape.dim):
        raise ActivsparseError(
            f"{where} has a size of 0, so there is nothing to compute; export with other sizes"
        )


def _trains(
    node: onnx.NodeProto, opset: int, constants: dict[str, onnx.TensorProto], name: str
) -> bool:
    if node.op_type == "BatchNormalization":
        if opset < _NEW_NORM_OPSET:
            return any(node.output[1:])
        return any(a.name == "training_mode" and a.i for a in node.attribute)
    if node.op_type == "Dropout" and len(node.input) > 2 and node.input[2] in constants:
        return bool(array_of(constants[node.input[2]], name).any())
    return False
