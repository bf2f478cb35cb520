"""From ONNX operators to the engine's (docs/operators.md), each node without its neighbours."""

from __future__ import annotations

from collections.abc import Callable

from activsparse.engine.graph import Graph, Node
from activsparse.engine.passes.convert import convolution, dense, elementwise, layout, pooling
from activsparse.engine.passes.convert.source import Source
from activsparse.errors import ActivsparseError

__all__ = ["SUPPORTED", "convert"]

Converter = Callable[[Source], list[Node]]

_CONVERTERS: dict[str, Converter] = {
    "Add": elementwise.add,
    "AveragePool": pooling.average_pool,
    "BatchNormalization": elementwise.batch_normalization,
    "Clip": elementwise.clip,
    "Concat": layout.concat,
    "Conv": convolution.conv,
    "Div": elementwise.div,
    "Flatten": layout.reshape,
    "Gemm": dense.gemm,
    "GlobalAveragePool": pooling.global_average_pool,
    "GlobalMaxPool": pooling.global_max_pool,
    "HardSigmoid": elementwise.hard_sigmoid,
    "HardSwish": elementwise.hard_swish,
    "MatMul": dense.matmul,
    "MaxPool": pooling.max_pool,
    "Mul": elementwise.mul,
    "Pad": convolution.pad,
    "ReduceMean": pooling.reduce_mean,
    "Relu": elementwise.relu,
    "Reshape": layout.reshape,
    "Resize": layout.resize,
    "Sigmoid": elementwise.sigmoid,
    "Softmax": dense.softmax,
    "Squeeze": layout.reshape,
    "Sub": elementwise.sub,
    "Transpose": layout.transpose,
    "Unsqueeze": layout.reshape,
    "Upsample": layout.resize,
}

SUPPORTED = tuple(sorted(_CONVERTERS))
"""ONNX operator types the engine runs (constants may be computed by any operator)."""


def convert(graph: Graph) -> Graph:
    """Replace every ONNX node by engine nodes.

    Raises:
        ActivsparseError: an operator, or a use of one, that the engine does not know.
    """
    graph = graph.copy()
    nodes, graph.nodes = graph.nodes, []
    for node in nodes:
        if node.op[0].islower():  # an earlier pass matched it
            graph.nodes.append(node)
            continue
        converter = _CONVERTERS.get(node.op)
        if converter is None:
            raise ActivsparseError(
                f"{graph.name}: {node.title} is not an operator this engine runs; "
                f"replace it in the model, or run the file with another ONNX engine "
                f"(known operators: {', '.join(SUPPORTED)})"
            )
        converted = converter(Source(graph, node))
        # Outputs beside the first (MaxPool's indices, Dropout's mask) are not computed.
        for extra in filter(None, node.outputs[1:]):
            if any(extra in n.inputs for n in nodes) or extra in graph.outputs:
                raise ActivsparseError(
                    f"{graph.name}: {node.title}: its output '{extra}' is used; "
                    "only the first output is supported"
                )
        graph.nodes.extend(converted)
    return graph
