"""QOperator files spelled out: each quantised operator as the float one between its pairs.

Plain operators that stand on bytes, as such files have them, get the pair that their bytes have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from activsparse.engine.graph import Array, Graph, Node, NodeError
from activsparse.engine.passes.quantised.pairs import DEQUANTISE, QUANTISE

__all__ = ["expand_qoperators"]

# Inputs are a value, its scale and its zero point each; then scale and zero point of the result.
_UNARY = {
    "QLinearAveragePool": "AveragePool",
    "QLinearGlobalAveragePool": "GlobalAveragePool",
    "QLinearLeakyRelu": "LeakyRelu",
    "QLinearSigmoid": "Sigmoid",
    "QLinearReduceMean": "ReduceMean",
    "QLinearSoftmax": "Softmax",
}
_BINARY = {"QLinearAdd": "Add", "QLinearMul": "Mul"}

# Plain operators whose results are elements of their inputs, or lie between them: of which inputs.
_FIRST, _ALL = slice(0, 1), slice(None)
_ON_BYTES = {
    **dict.fromkeys(
        (
            *("DepthToSpace", "Expand", "Flatten", "Gather", "GatherND", "Identity", "MaxPool"),
            *("ReduceMax", "ReduceMin", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split"),
            *("Squeeze", "Tile", "Transpose", "Unsqueeze", "Upsample"),
        ),
        _FIRST,
    ),
    **dict.fromkeys(("Concat", "Max", "Min"), _ALL),
    **{"Pad": slice(0, 3, 2), "Where": slice(1, 3)},
}
# And those whose result is an index.
_INDICES = ("ArgMax", "ArgMin")


def expand_qoperators(graph: Graph) -> Graph:
    """Replace quantised operators by `DequantizeLinear`, the float operator, `QuantizeLinear`.

    Of a loaded graph: shapes are not needed.
    """
    graph = graph.copy()
    for node in list(graph.nodes):
        rule = _RULES.get(_name(node))
        if rule is None:
            continue
        try:
            graph.nodes.replace(node, *rule(_Expansion(graph, node)))
        except (IndexError, ValueError) as error:
            raise NodeError(
                node,
                f"{graph.name}: {node.title} lacks inputs, or they do not fit each other; "
                "quantise the model again",
            ) from error
    return _surround(graph)


def _surround(graph: Graph) -> Graph:
    """Put pairs around plain operators on bytes."""
    pairs: dict[str, tuple[str, ...]] = {}
    for node in list(graph.nodes):
        if node.op == QUANTISE:
            pair = tuple(filter(None, node.inputs[1:]))
            scale = graph.constants.get(pair[0]) if pair else None
            if scale is not None and scale.size == 1 and not node.attributes.get("output_dtype"):
                pairs[node.outputs[0]] = pair
        elif node.op in _ON_BYTES or node.op in _INDICES:
            graph.nodes.replace(node, *_between_pairs(graph, node, pairs))
    return graph


def _between_pairs(graph: Graph, node: Node, pairs: dict[str, tuple[str, ...]]) -> list[Node]:
    """A plain operator with the pairs of its bytes around it, or as it is where it has none."""
    at = range(len(node.inputs))[_ON_BYTES.get(node.op, _FIRST)]
    read = [node.inputs[i] for i in at if node.inputs[i]]
    pair = next((pairs[x] for x in read if x in pairs), None)
    # Constants beside bytes are bytes of the same kind.
    if pair is None or any(pairs.get(x, pair) != pair for x in read):
        return [node]
    if any(x not in pairs and x not in graph.constants for x in read):
        return [node]
    if node.op == "Pad" and len(read) == 1:  # what it adds is the byte 0
        zero = graph.constants[pair[1]] if pair[1:] else np.zeros((), np.uint8)
        fill = f"{node.outputs[0]}.fill"
        graph.constants[fill], graph.shapes[fill] = np.zeros((), zero.dtype), ()
        node = replace(node, inputs=(*node.inputs[:2], fill, *node.inputs[3:]))
        at, read = range(0, 3, 2), [*read, fill]
    real = {x: f"{node.outputs[0]}.of.{x}" for x in read}
    # Indices, beside a maximum or alone, are no bytes.
    count = 0 if node.op in _INDICES else len(node.outputs) if node.op == "Split" else 1
    written = {y: f"{y}.float" for y in node.outputs[:count] if y}
    pairs.update(dict.fromkeys(written, pair))
    inputs = tuple(real.get(x, x) if i in at else x for i, x in enumerate(node.inputs))
    outputs = tuple(written.get(y, y) for y in node.outputs)
    return [
        *(Node(DEQUANTISE, name, (x, *pair), (name,)) for x, name in real.items()),
        replace(node, inputs=inputs, outputs=outputs),
        *(Node(QUANTISE, f"{name}.q", (name, *pair), (y,)) for y, name in written.items()),
    ]


def _name(node: Node) -> str:
    """Of an operator, whether ONNX's or one that ONNX Runtime adds."""
    return node.op.removesuffix("@com.microsoft")


class _Expansion:
    def __init__(self, graph: Graph, node: Node) -> None:
        self.graph, self.node = graph, node
        self.nodes: list[Node] = []

    def constant(self, suffix: str, value: Array) -> str:
        name = f"{self.node.outputs[0]}.{suffix}"
        self.graph.constants[name] = value
        self.graph.shapes[name] = tuple(value.shape)
        return name

    def dequantised(self, first: int, axis: int | None = None) -> str:
        """Three inputs of the node: a value, its scale and its zero point."""
        inputs = tuple(self.node.inputs[first : first + 3])
        name = f"{self.node.outputs[0]}.in{first}"
        attributes = {} if axis is None else {"axis": axis}
        self.nodes.append(Node(DEQUANTISE, name, tuple(filter(None, inputs)), (name,), attributes))
        return name

    def result(
        self, op: str, inputs: tuple[str, ...], scale: int, attributes: dict[str, object]
    ) -> list[Node]:
        y = f"{self.node.outputs[0]}.float"
        pair = tuple(filter(None, self.node.inputs[scale : scale + 2]))
        self.nodes.append(Node(op, self.node.name, inputs, (y,), attributes))
        self.nodes.append(Node(QUANTISE, f"{y}.q", (y, *pair), self.node.outputs))
        return self.nodes

    def bias(self, index: int, x_scale: int, w_scale: int) -> tuple[str, ...]:
        """An int32 bias, whose scale is the product of the others'."""
        names = [self.node.inputs[i] for i in (x_scale, w_scale)]
        if len(self.node.inputs) <= index or not self.node.inputs[index]:
            return ()
        scales = [self.graph.constants.get(name) for name in names]
        bias = self.graph.constants.get(self.node.inputs[index])
        if bias is None or any(scale is None for scale in scales):
            return (self.node.inputs[index],)
        product = np.float32(1) * scales[0] * scales[1]
        return (self.constant("bias", (bias * product).astype(np.float32)),)


def _conv(e: _Expansion) -> list[Node]:
    x, w = e.dequantised(0), e.dequantised(3, 0)
    return e.result("Conv", (x, w, *e.bias(8, 1, 4)), 6, dict(e.node.attributes))


def _matmul(e: _Expansion) -> list[Node]:
    return e.result("MatMul", (e.dequantised(0), e.dequantised(3)), 6, {})


def _gemm(e: _Expansion) -> list[Node]:
    axis = 0 if e.node.attributes.get("transB", 0) else 1
    x, w = e.dequantised(0), e.dequantised(3, axis)
    inputs = (x, w, *e.bias(6, 1, 4))
    if len(e.node.inputs) > 7 and e.node.inputs[7]:
        return e.result("Gemm", inputs, 7, dict(e.node.attributes))
    e.nodes.append(Node("Gemm", e.node.name, inputs, e.node.outputs, dict(e.node.attributes)))
    return e.nodes


def _unary(e: _Expansion) -> list[Node]:
    attributes = dict(e.node.attributes)
    for theirs in ("channels_last", "opset"):
        attributes.pop(theirs, None)
    return e.result(_UNARY[_name(e.node)], (e.dequantised(0),), 3, attributes)


def _binary(e: _Expansion) -> list[Node]:
    return e.result(_BINARY[_name(e.node)], (e.dequantised(0), e.dequantised(3)), 6, {})


def _where(e: _Expansion) -> list[Node]:
    inputs = (e.node.inputs[0], e.dequantised(1), e.dequantised(4))
    return e.result("Where", inputs, 7, {})


def _concat(e: _Expansion) -> list[Node]:
    count = (len(e.node.inputs) - 2) // 3
    parts = tuple(e.dequantised(2 + 3 * i) for i in range(count))
    return e.result("Concat", parts, 0, dict(e.node.attributes))


_RULES: dict[str, Callable[[_Expansion], list[Node]]] = {
    "QGemm": _gemm,
    "QLinearConcat": _concat,
    "QLinearConv": _conv,
    "QLinearMatMul": _matmul,
    "QLinearWhere": _where,
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_BINARY, _binary),
}
