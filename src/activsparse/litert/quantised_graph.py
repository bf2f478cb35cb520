"""A QDQ file as LiteRT sees it: which values are whole numbers, of which scales."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from activsparse.engine.exact.rounding import Rounding, dequantise
from activsparse.engine.exact.span import Span
from activsparse.errors import ActivsparseError
from activsparse.litert.writer import Scales
from activsparse.onnx_file import quantised
from activsparse.onnx_file.check import title
from activsparse.onnx_file.tensor import array_of

__all__ = ["QdqGraph", "Stored", "attributes_of"]

Array = npt.NDArray[Any]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Stored:
    """A quantised constant: int8 or int32 numbers and what they stand for."""

    numbers: Array
    scales: Scales


class QdqGraph:
    """A quantised model with settled sizes.

    Attributes:
        name: of its file.
        nodes: in order, those of constants left out.
        inputs: names.
        outputs: names.
        constants: real values of everything that depends on no input, float32 or whole numbers.
        stored: those that are quantised.

    Args:
        model: as `onnx_file.read_model` gives it.
        name: of its file.
        input_shapes: full shapes of inputs the file leaves open.

    Raises:
        ActivsparseError: it is not in QDQ form, or sizes are open.
    """

    def __init__(
        self, model: onnx.ModelProto, name: str, input_shapes: dict[str, Shape] | None = None
    ) -> None:
        self.name = name
        graph = model.graph
        self.constants: dict[str, Array] = {
            t.name: array_of(t, f"{name}: constant {t.name!r}") for t in graph.initializer
        }
        self.stored: dict[str, Stored] = {}
        self.inputs = [v.name for v in graph.input if v.name not in self.constants]
        self.outputs = [v.name for v in graph.output]
        self._shapes = _shapes_of(model, name, input_shapes or {})
        self.nodes = [node for node in graph.node if not self._settled(node)]
        self.opset = max(e.version for e in model.opset_import if e.domain in ("", "ai.onnx"))
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for tensor in node.input:
                self._readers.setdefault(tensor, []).append(node)
            op = node.op_type
            if quantised(op) and op not in ("QuantizeLinear", "DequantizeLinear"):
                raise ActivsparseError(
                    f"{name}: {title(node)}: only QuantizeLinear and DequantizeLinear can be "
                    "written as .tflite; quantise the model again in QDQ form"
                )

    def shape(self, tensor: str) -> Shape:
        """Sizes as in ONNX.

        Raises:
            ActivsparseError: they are not settled.
        """
        found = self._shapes.get(tensor)
        if found is None or not all(size > 0 for size in found):
            raise ActivsparseError(
                f"{self.name}: the size of '{tensor}' is open; export the model with fixed sizes"
            )
        return found

    def readers(self, tensor: str) -> list[onnx.NodeProto]:
        """The nodes that read a tensor; a result of the graph has one more, which is none."""
        return self._readers.get(tensor, [])

    def reader(
        self, tensor: str, op: str, scales: Scales | None
    ) -> tuple[list[str], onnx.NodeProto | None]:
        """The node of this type that alone reads a tensor, if it is so.

        Before it may stand pairs that round values of these scales to just these; the names of
        what they give come first.
        """
        between: list[str] = []
        while True:
            readers = self.readers(tensor)
            if len(readers) != 1 or self.is_result(tensor):
                return between, None
            (node,) = readers
            if node.op_type == op:
                return between, node
            pair = node.op_type in ("QuantizeLinear", "DequantizeLinear")
            if not pair or scales is None or self.scales_of(node) != scales:
                return between, None
            tensor = node.output[0]
            between.append(tensor)

    def is_result(self, tensor: str) -> bool:
        """Whether the graph gives a tensor away."""
        return tensor in self.outputs

    def scales_of(self, node: onnx.NodeProto) -> Scales:
        """What a QuantizeLinear or DequantizeLinear of values rounds to, in int8.

        Raises:
            ActivsparseError: several scales, or another type than uint8 or int8.
        """
        scale = self.constants.get(node.input[1])
        zero: Array | None = np.zeros((), np.uint8)
        if len(node.input) > 2:
            zero = self.constants.get(node.input[2])
        if (
            scale is None
            or zero is None
            or scale.size != 1
            or zero.dtype not in (np.uint8, np.int8)
        ):
            raise ActivsparseError(
                f"{self.name}: {title(node)}: LiteRT has values of one scale, uint8 or int8; "
                "quantise the model again"
            )
        shift = 128 if zero.dtype == np.uint8 else 0
        return Scales((float(scale.reshape(())),), (int(zero.reshape(())) - shift,))

    def target(self, tensor: str) -> Scales | None:
        """What an operator's result is rounded to; None where it is read as it is."""
        readers = self.readers(tensor)
        quantise = all(node.op_type == "QuantizeLinear" for node in readers)
        if not readers or not quantise or self.is_result(tensor):
            return None
        return self.scales_of(readers[0])

    def _settled(self, node: onnx.NodeProto) -> bool:
        """Evaluate a node of constants."""
        if node.op_type == "Constant":
            value = helper.get_attribute_value(node.attribute[0])
            array = numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value
            self.constants[node.output[0]] = np.asarray(array)
            return True
        if not all(name in self.constants for name in node.input if name):
            return False
        values = [self.constants[name] for name in node.input]
        a = attributes_of(node)
        if node.op_type == "Identity":
            self.constants[node.output[0]] = values[0]
            if node.input[0] in self.stored:
                self.stored[node.output[0]] = self.stored[node.input[0]]
            return True
        if node.op_type == "QuantizeLinear":
            zero = values[2] if len(values) > 2 else np.zeros(values[1].shape, np.uint8)
            x = Span.of(values[0].astype(np.float64))
            found = Rounding().quantise(x, values[1], zero, a.get("axis", 1), "")
            self.constants[node.output[0]] = found.low
            return True
        if node.op_type != "DequantizeLinear":
            return False
        numbers, scale = values[:2]
        zero = values[2] if len(values) > 2 else np.zeros(scale.shape, numbers.dtype)
        axis = a.get("axis", 1) % max(numbers.ndim, 1)
        channels = numbers.shape[axis] if numbers.ndim else 1
        if scale.size not in (1, channels) or zero.size not in (1, scale.size):
            raise ActivsparseError(
                f"{self.name}: {title(node)}: {scale.size} scales and {zero.size} zero points for "
                f"{channels} channels; export it again"
            )
        zero = zero.reshape(scale.shape if zero.size == scale.size else ())
        real = dequantise(Span.of(numbers), scale, zero, axis).low
        self.constants[node.output[0]] = real.astype(np.float32)
        shift = 128 if numbers.dtype == np.uint8 else 0
        kind = np.int8 if numbers.dtype in (np.uint8, np.int8) else np.int32
        zeros = np.broadcast_to(zero.astype(int) - shift, scale.shape).reshape(-1)
        self.stored[node.output[0]] = Stored(
            (numbers.astype(int) - shift).astype(kind),
            Scales(tuple(map(float, scale.reshape(-1))), tuple(map(int, zeros)), axis),
        )
        return True


def attributes_of(node: onnx.NodeProto) -> dict[str, Any]:
    """A node's attributes by name."""
    found = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    return {k: v.decode() if isinstance(v, bytes) else v for k, v in found.items()}


def _shapes_of(
    model: onnx.ModelProto, name: str, given: dict[str, Sequence[int]] | dict[str, Shape]
) -> dict[str, Shape]:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants = {t.name for t in copy.graph.initializer}
    for value in copy.graph.input:
        dims = value.type.tensor_type.shape.dim
        for i, dim in enumerate(dims if value.name not in constants else ()):
            if dim.dim_value <= 0:
                sizes = given.get(value.name)
                dim.dim_value = int(sizes[i]) if sizes else (1 if i == 0 else 0)
    del copy.graph.value_info[:]
    for value in copy.graph.output:
        value.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(copy, data_prop=True).graph
    except Exception as error:  # the inference raises several types, with no narrower base
        cause = str(error).strip().splitlines()[0]
        raise ActivsparseError(f"{name}: its shapes do not fit each other ({cause})") from error
    return {
        value.name: tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        for value in (*inferred.input, *inferred.value_info, *inferred.output)
        if value.type.tensor_type.HasField("shape")
    }
