"""Building a .tflite file: tensors, constants and operators in LiteRT's own schema."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from activsparse.engine.graph import Array, Shape
from activsparse.errors import ActivsparseError

__all__ = ["Scales", "Writer"]

_LARGEST = 2**31 - 1
_FILE_IDENTIFIER = b"TFL3"
_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int32): schema.TensorType.INT32,
    np.dtype(np.int8): schema.TensorType.INT8,
}


@dataclass(frozen=True)
class Scales:
    """What the whole numbers of a tensor stand for: (value - zero) * scale.

    Attributes:
        scale: one, or one for each index along `axis`.
        zero: alike.
        axis: of the tensor.
    """

    scale: tuple[float, ...]
    zero: tuple[int, ...]
    axis: int = 0


class _AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Starts every vector at a multiple of 16 bytes, as the schema wants constants to lie."""

    def StartVector(self, size: int, count: int, alignment: int) -> Any:  # noqa: N802
        """Start a vector of `count` elements."""
        return super().StartVector(size, count, max(alignment, 16))


class Writer:
    """A model of one graph; values and constants are numbers of tensors."""

    def __init__(self) -> None:
        self._tensors: list[Any] = []
        self._buffers: list[Any] = [schema.BufferT()]  # the first one means: no constant
        self._operators: list[Any] = []
        self._codes: dict[tuple[int, int], int] = {}

    def value(self, name: str, shape: Shape, scales: Scales | None = None) -> int:
        """Add a tensor that is computed at run time: float32, or int8 with its scales."""
        dtype = np.dtype(np.float32 if scales is None else np.int8)
        return self._tensor(name, shape, dtype, 0, scales)

    def constant(self, name: str, array: Array, scales: Scales | None = None) -> int:
        """Add a constant, float32, float16, int32 or int8."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(array).tobytes(), np.uint8)
        self._buffers.append(buffer)
        return self._tensor(name, array.shape, array.dtype, len(self._buffers) - 1, scales)

    def operator(
        self,
        op: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: Any = None,
        version: int = 1,
    ) -> Any:
        """Add an operator.

        Args:
            op: a name of the schema's `BuiltinOperator`.
            inputs: tensors it reads; -1 for one left out.
            outputs: tensors it writes.
            options: an object of the schema, such as `Conv2DOptionsT`.
            version: of the operator, by the types it takes.

        Returns:
            The operator, whose options may still be changed.
        """
        code = getattr(schema.BuiltinOperator, op)
        operator = schema.OperatorT()
        operator.opcodeIndex = self._codes.setdefault((code, version), len(self._codes))
        operator.inputs, operator.outputs = list(inputs), list(outputs)
        if options is not None:
            kind = type(options).__name__.removesuffix("T")
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, kind)
            operator.builtinOptions = options
        self._operators.append(operator)
        return operator

    def finish(self, inputs: Sequence[int], outputs: Sequence[int]) -> bytes:
        """Return the file's content."""
        graph = schema.SubGraphT()
        graph.name = b"main"
        graph.tensors, graph.operators = self._tensors, self._operators
        graph.inputs, graph.outputs = list(inputs), list(outputs)
        model = schema.ModelT()
        model.version = 3
        model.description = b"activsparse"
        model.buffers, model.subgraphs = self._buffers, [graph]
        model.operatorCodes = [_operator_code(*code) for code in self._codes]
        builder = _AlignedBuilder(1 << 20)
        builder.Finish(model.Pack(builder), file_identifier=_FILE_IDENTIFIER)
        return bytes(builder.Output())

    def _tensor(
        self, name: str, shape: Shape, dtype: Any, buffer: int, scales: Scales | None
    ) -> int:
        if any(size > _LARGEST for size in shape):
            raise ActivsparseError(
                f"{name}: a size of {max(shape)} is more than a .tflite file can hold; give the "
                "model a smaller one"
            )
        tensor = schema.TensorT()
        tensor.name = name.encode()
        tensor.shape = [int(size) for size in shape]
        tensor.hasRank = True
        tensor.type = _TYPES[np.dtype(dtype)]
        tensor.buffer = buffer
        if scales is not None:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale = list(scales.scale)
            tensor.quantization.zeroPoint = list(scales.zero)
            tensor.quantization.quantizedDimension = scales.axis
        self._tensors.append(tensor)
        return len(self._tensors) - 1


def _operator_code(code: int, version: int) -> Any:
    entry = schema.OperatorCodeT()
    entry.builtinCode = code
    # Readers from before the schema had room for more than 127 operators look here.
    entry.deprecatedBuiltinCode = min(code, 127)
    entry.version = version
    return entry
