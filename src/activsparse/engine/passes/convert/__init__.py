"""From ONNX operators to the engine's (docs/operators.md), each node without its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from activsparse.engine.graph import Graph, Node, NodeError, Nodes
from activsparse.engine.passes.convert import (
    activation,
    convolution,
    dense,
    elementwise,
    layout,
    norm,
    padding,
    pooling,
    reduction,
    resize,
    selection,
    strided,
    transposed,
)
from activsparse.engine.passes.convert.source import Source
from activsparse.errors import ActivsparseError, Option
from activsparse.onnx_file import quantised

__all__ = ["SUPPORTED", "can_convert", "convert"]

Converter = Callable[[Source], list[Node]]

_CONVERTERS: dict[str, Converter] = {
    "Abs": activation.function("abs"),
    "Add": elementwise.add,
    "AveragePool": pooling.average_pool,
    "BatchNormalization": elementwise.batch_normalization,
    "Celu": activation.celu,
    "Clip": activation.clip,
    "Concat": strided.concat,
    "Conv": convolution.conv,
    "ConvTranspose": transposed.conv_transpose,
    "DepthToSpace": strided.depth_to_space,
    "Div": elementwise.div,
    "Elu": activation.elu,
    "Erf": activation.function("erf"),
    "Exp": activation.function("exp"),
    "Expand": strided.expand,
    "Flatten": layout.reshape,
    "Gather": selection.gather,
    "GatherND": selection.gather_nd,
    "Gelu": activation.gelu,
    "Gemm": dense.gemm,
    "GlobalAveragePool": pooling.global_average_pool,
    "GlobalMaxPool": pooling.global_max_pool,
    "GroupNormalization": norm.group_normalization,
    "HardSigmoid": activation.hard_sigmoid,
    "HardSwish": activation.function("hardswish"),
    "InstanceNormalization": norm.instance_normalization,
    "LRN": norm.local_response,
    "LayerNormalization": norm.layer_normalization,
    "LeakyRelu": activation.leaky_relu,
    "MatMul": dense.matmul,
    "Max": strided.combine,
    "MaxPool": pooling.max_pool,
    "Min": strided.combine,
    "Mish": activation.function("mish"),
    "Mul": elementwise.mul,
    "Neg": elementwise.neg,
    "PRelu": activation.prelu,
    "Pad": padding.pad,
    "Pow": activation.power,
    "Reciprocal": activation.function("reciprocal"),
    "ReduceL1": reduction.reduction("l1"),
    "ReduceL2": reduction.reduction("l2"),
    "ReduceMax": reduction.reduction("maximum"),
    "ReduceMean": reduction.reduction("mean"),
    "ReduceMin": reduction.reduction("minimum"),
    "ReduceProd": reduction.reduction("product"),
    "ReduceSum": reduction.reduction("sum"),
    "Relu": activation.relu,
    "Reshape": layout.reshape,
    "Resize": resize.resize,
    "Selu": activation.selu,
    "Sigmoid": activation.function("sigmoid"),
    "Slice": strided.slice_,
    "Softmax": strided.softmax,
    "Softplus": activation.function("softplus"),
    "Softsign": activation.softsign,
    "SpaceToDepth": strided.space_to_depth,
    "Split": strided.split,
    "Sqrt": activation.function("sqrt"),
    "Squeeze": layout.reshape,
    "Sub": elementwise.sub,
    "Sum": elementwise.total,
    "Swish": activation.swish,
    "Tanh": activation.function("tanh"),
    "Transpose": strided.transpose,
    "Unsqueeze": layout.reshape,
    "Upsample": resize.resize,
    "Where": selection.where,
}

SUPPORTED = tuple(sorted(_CONVERTERS))
"""ONNX operator types the engine runs (constants may be computed by any operator)."""


def can_convert(graph: Graph, node: Node) -> bool:
    """Whether the engine runs a node, as far as can be said without its neighbours."""
    converter = _CONVERTERS.get(node.op)
    if converter is None:
        return False
    try:
        _converted(converter, Source(_around(graph, node), node))
    except ActivsparseError:
        return False
    return True


def _around(graph: Graph, node: Node) -> Graph:
    """What a converter sees of a graph, and may add to."""
    names = [name for name in (*node.inputs, *node.outputs) if name in graph.shapes]
    return replace(graph, shapes={name: graph.shapes[name] for name in names})


def _converted(converter: Converter, source: Source) -> list[Node]:
    """Convert a node; what does not fit together in it comes out in arithmetic on its arrays."""
    try:
        return converter(source)
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        cause = str(error) or type(error).__name__
        source.fail(f"its inputs and attributes do not fit each other ({cause})", "export it again")


def convert(graph: Graph) -> Graph:
    """Replace every ONNX node by engine nodes.

    Raises:
        ActivsparseError: an operator, or a use of one, that the engine does not know.
    """
    graph = graph.copy()
    nodes, graph.nodes = graph.nodes, Nodes()
    for node in nodes:
        if node.op[0].islower():  # an earlier pass matched it
            graph.nodes.append(node)
            continue
        converter = _CONVERTERS.get(node.op)
        if converter is None and quantised(node.op):
            raise NodeError(
                node,
                f"{graph.name}: {node.title}: quantised models are not supported yet; export the "
                "model in float32, or let ONNX Runtime run them with ",
                Option("fallback", "onnxruntime"),
            )
        if converter is None:
            raise NodeError(
                node,
                f"{graph.name}: {node.title} is not an operator this engine runs; "
                "replace it in the model, or let ONNX Runtime run it with ",
                Option("fallback", "onnxruntime"),
                f" (known operators: {', '.join(SUPPORTED)})",
            )
        converted = _converted(converter, Source(graph, node))
        # Outputs beside the first (MaxPool's indices, Dropout's mask) are not computed.
        written = {name for new in converted for name in new.outputs}
        for extra in set(filter(None, node.outputs[1:])) - written:
            if nodes.reads(extra) or extra in graph.outputs:
                raise NodeError(
                    node,
                    f"{graph.name}: {node.title}: its output '{extra}' is used; "
                    "only the first output is supported",
                )
        graph.nodes.extend(converted)
    return graph
