"""Ranges of values, and the quantised graph that follows from them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from activsparse.errors import ActivsparseError
from activsparse.quantisation.lifted_masks import LiftedMask, put_masks_back
from activsparse.quantisation.options import QuantizeOptions
from activsparse.quantisation.prepare import quiet

__all__ = ["Feed", "Ranges", "find_ranges", "quantised_model"]

Feed = Mapping[str, npt.NDArray[np.float32]]
Ranges = Any
"""`onnxruntime.quantization.TensorsData`."""

# Histograms are made of all values of so many samples at once.
_AT_ONCE = 8

# What a convolutional network is made of. Softmax, exponentials and the like stay in float, and
# SiLU's two operators between a pair: eight bits in the middle of them cost more than they save.
_OPERATORS = [
    "Add", "AveragePool", "Clip", "Concat", "Conv", "ConvTranspose", "Flatten", "Gemm",
    "GlobalAveragePool", "LeakyRelu", "MatMul", "MaxPool", "Mul", "Pad", "Relu", "Reshape",
    "Resize", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze",
]  # fmt: skip


def find_ranges(
    model: onnx.ModelProto,
    feeds: Sequence[Feed],
    options: QuantizeOptions,
    name: str,
    advance: Callable[[int, int], None] = lambda done, total: None,
) -> Ranges:
    """Run a float model on samples and note the range of every tensor.

    Args:
        model: as `prepare.prepared` gives it, masks and all.
        feeds: the samples.
        options: method and percentile.
        name: of the model's file, for messages.
        advance: told how many samples are done, and of how many.

    Raises:
        ActivsparseError: ONNX Runtime cannot run it; a value is not finite.
    """
    from onnxruntime import quantization as q

    methods = {
        "minmax": q.CalibrationMethod.MinMax,
        "percentile": q.CalibrationMethod.Percentile,
        "entropy": q.CalibrationMethod.Entropy,
    }
    extra = {"percentile": options.percentile} if options.method == "percentile" else {}

    class Reader(q.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self, part: Sequence[Feed]) -> None:
            self.left = iter(part)

        def get_next(self) -> Feed | None:
            return next(self.left, None)

    with tempfile.TemporaryDirectory() as folder, quiet():
        source = Path(folder) / "model.onnx"
        onnx.save(model, source)
        try:
            calibrator = q.create_calibrator(
                source,
                None,
                augmented_model_path=str(Path(folder) / "augmented.onnx"),
                calibrate_method=methods[options.method],
                extra_options=extra,
            )
            for start in range(0, len(feeds), _AT_ONCE):
                part = feeds[start : start + _AT_ONCE]
                calibrator.collect_data(Reader(part))
                advance(start + len(part), len(feeds))
            found = calibrator.compute_data()
        except ActivsparseError:
            raise  # a sample cannot be read
        except Exception as error:  # ONNX Runtime's exception types share no narrower base
            cause = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ActivsparseError(
                f"{name}: ONNX Runtime cannot calibrate it ({cause}); check model and samples"
            ) from error
    for tensor, data in found.items():
        low, high = data.range_value
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise ActivsparseError(
                f"{name}: '{tensor}' holds values that are not finite on these samples; check the "
                "samples, and the model in float32"
            )
    return found


def quantised_model(
    dense: onnx.ModelProto,
    masks: list[LiftedMask],
    ranges: Ranges,
    options: QuantizeOptions,
    *,
    only: Collection[str] | None = None,
    leave: Collection[str] = (),
) -> onnx.ModelProto:
    """Return the quantised network with its masks.

    Args:
        dense: prepared, its masks taken out; not changed.
        masks: those.
        ranges: of its tensors.
        options: whether by channels.
        only: names of the only nodes to quantise.
        leave: names of nodes to leave in float.
    """
    from onnxruntime import quantization as q

    copy = onnx.ModelProto()
    copy.CopyFrom(dense)
    with quiet():
        quantizer = q.QDQQuantizer(
            copy,
            options.per_channel,
            False,  # weights keep all their bits: no engine here needs them narrow
            q.QuantType.QInt8,
            q.QuantType.QUInt8,
            ranges,
            list(only) if only is not None else [],
            [*leave, *_inner_nodes(dense.graph)],
            _OPERATORS,
            {"WeightSymmetric": True, "ActivationSymmetric": False},
        )
        quantizer.quantize_model()
    quantizer.model.topological_sort()
    result: onnx.ModelProto = quantizer.model.model
    _open_heads(result.graph)
    put_masks_back(result, masks)
    return result


def _inner_nodes(graph: onnx.GraphProto) -> list[str]:
    """Products of a tensor by a function of itself: x * sigmoid(x)."""
    producers = {name: node for node in graph.node for name in node.output}
    inner = []
    for node in graph.node:
        if node.op_type == "Mul":
            for x, gate in (node.input, reversed(node.input)):
                made = producers.get(gate)
                if made is not None and made.op_type in ("Sigmoid", "HardSigmoid"):
                    inner += [node.name] if made.input[0] == x else []
    return inner


def _open_heads(graph: onnx.GraphProto) -> None:
    """Give results of fully connected layers as they are: eight bits would make ties of classes."""
    producers = {name: node for node in graph.node for name in node.output}
    readers = [name for node in graph.node for name in node.input]
    for value in graph.output:
        chain = []
        name = value.name
        for op in ("DequantizeLinear", "QuantizeLinear"):
            node = producers.get(name)
            if node is None or node.op_type != op or readers.count(node.input[0]) != 1:
                break
            chain.append(node)
            name = node.input[0]
        head = producers.get(name)
        if len(chain) < 2 or head is None or head.op_type not in ("Gemm", "MatMul"):
            continue
        for node in chain:
            graph.node.remove(node)
        head.output[0] = value.name
