"""Whether two networks are one network, masks and weights apart: only then their times compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from activsparse.onnx_file import read_model

if TYPE_CHECKING:
    import onnx

__all__ = ["difference"]

Shape = tuple[int | str, ...]

# Which input of a convolution is its weight.
_WEIGHTS = {"Conv": 1, "QLinearConv": 3}


def difference(dense: Path, sparse: Path) -> str | None:
    """Say in what a masked model differs from the dense one, beyond masks and values of weights.

    Args:
        dense: an ONNX file.
        sparse: another one.

    Returns:
        A sentence, or None where inputs, outputs and the shapes of all convolutions' weights agree.
        Names may differ, and an open size or an unknown shape agrees with any.
    """
    graphs = [read_model(path, weights=False, foreign=True).graph for path in (dense, sparse)]
    for what, of in (("inputs", _inputs), ("outputs", _outputs)):
        ours, theirs = (of(graph) for graph in graphs)
        if len(ours) != len(theirs) or not all(map(_agree, ours, theirs)):
            return f"{sparse}: its {what} {_text(theirs)} are not those of {dense}, {_text(ours)}"
    before, after = (_convolutions(graph) for graph in graphs)
    if before != after:
        odd = [shape for shape in (*before, *after) if before[shape] != after[shape]]
        where = f"such as {before[odd[0]]} against {after[odd[0]]} of {_text(odd[:1])}"
        return f"{sparse}: its convolutions are not those of {dense} ({where})"
    return None


def _inputs(graph: onnx.GraphProto) -> list[Shape | None]:
    constants = {tensor.name for tensor in graph.initializer}
    return [_shape(value) for value in graph.input if value.name not in constants]


def _outputs(graph: onnx.GraphProto) -> list[Shape | None]:
    return [_shape(value) for value in graph.output]


def _shape(value: onnx.ValueInfoProto) -> Shape | None:
    if not value.type.tensor_type.HasField("shape"):
        return None
    dims = value.type.tensor_type.shape.dim
    return tuple(d.dim_value if d.dim_value > 0 else d.dim_param or "?" for d in dims)


def _agree(one: Shape | None, other: Shape | None) -> bool:
    if one is None or other is None:
        return True
    return len(one) == len(other) and all(
        isinstance(a, str) or isinstance(b, str) or a == b for a, b in zip(one, other, strict=True)
    )


def _convolutions(graph: onnx.GraphProto) -> Counter[Shape]:
    """How often each shape of a weight occurs among the convolutions, quantised or not."""
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and node.input[0] in shapes:
            shapes[node.output[0]] = shapes[node.input[0]]
    weights = [
        node.input[_WEIGHTS[node.op_type]]
        for node in graph.node
        if node.op_type in _WEIGHTS and len(node.input) > _WEIGHTS[node.op_type]
    ]
    return Counter(shapes[name] for name in weights if name in shapes)


def _text(shapes: Sequence[Shape | None]) -> str:
    return ", ".join("?" if shape is None else "x".join(map(str, shape)) for shape in shapes)
