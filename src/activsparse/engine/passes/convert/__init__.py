"""From ONNX operators to the engine's (docs/operators.md), each node without its neighbours."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from activsparse.engine.graph import INSTEAD, Graph, Node, NodeError, Nodes
from activsparse.engine.passes.convert import (
    activation,
    convolution,
    dense,
    einsum,
    elementwise,
    layout,
    logic,
    norm,
    padding,
    pooling,
    ranking,
    reduction,
    resize,
    scatter,
    selection,
    strided,
    transposed,
)
from activsparse.engine.passes.convert.row import row_or_image
from activsparse.engine.passes.convert.source import EXACT, Source
from activsparse.errors import ActivsparseError
from activsparse.onnx_file import quantised

__all__ = ["EXACT", "NEWEST_OPSET", "SUPPORTED", "can_convert", "convert", "convert_node"]

Converter = Callable[[Source], list[Node]]

_CONVERTERS: dict[str, Converter] = {
    "Abs": activation.function("abs"),
    "Add": elementwise.add,
    "And": logic.both,
    "ArgMax": ranking.arg_extreme,
    "ArgMin": ranking.arg_extreme,
    "AveragePool": row_or_image(pooling.average_pool),
    "BatchNormalization": elementwise.batch_normalization,
    "Cast": logic.cast,
    "Ceil": activation.function("ceil"),
    "Celu": activation.celu,
    "Clip": activation.clip,
    "Concat": strided.concat,
    "Conv": row_or_image(convolution.conv),
    "ConvTranspose": row_or_image(transposed.conv_transpose),
    "Cos": activation.function("cos"),
    "DepthToSpace": strided.depth_to_space,
    "Div": elementwise.div,
    "Einsum": einsum.einsum,
    "Elu": activation.elu,
    "Equal": logic.comparison("equal"),
    "Erf": activation.function("erf"),
    "Exp": activation.function("exp"),
    "Expand": strided.expand,
    "Flatten": layout.reshape,
    "Floor": activation.function("floor"),
    "Gather": selection.gather,
    "GatherND": selection.gather_nd,
    "Gelu": activation.gelu,
    "Gemm": dense.gemm,
    "GlobalAveragePool": pooling.global_average_pool,
    "GlobalMaxPool": pooling.global_max_pool,
    "Greater": logic.comparison("greater"),
    "GreaterOrEqual": logic.comparison("greater_equal"),
    "GroupNormalization": norm.group_normalization,
    "HardSigmoid": activation.hard_sigmoid,
    "HardSwish": activation.function("hardswish"),
    "InstanceNormalization": norm.instance_normalization,
    "LRN": row_or_image(norm.local_response),
    "LayerNormalization": norm.layer_normalization,
    "LeakyRelu": activation.leaky_relu,
    "Less": logic.comparison("greater", swapped=True),
    "LessOrEqual": logic.comparison("greater_equal", swapped=True),
    "Log": activation.function("log"),
    "LogSoftmax": strided.log_softmax,
    "LpNormalization": norm.lp_normalization,
    "MatMul": dense.matmul,
    "Max": strided.combine,
    "MaxPool": row_or_image(pooling.max_pool),
    "Mean": elementwise.mean,
    "Min": strided.combine,
    "Mish": activation.function("mish"),
    "Mul": elementwise.mul,
    "Neg": elementwise.neg,
    "Not": logic.opposite,
    "Or": logic.either,
    "PRelu": activation.prelu,
    "Pad": padding.pad,
    "Pow": activation.power,
    "RMSNormalization": norm.root_mean_square,
    "Reciprocal": activation.function("reciprocal"),
    "ReduceL1": reduction.reduction("l1"),
    "ReduceL2": reduction.reduction("l2"),
    "ReduceLogSum": reduction.log_sum,
    "ReduceLogSumExp": reduction.log_sum_exp,
    "ReduceMax": reduction.reduction("maximum"),
    "ReduceMean": reduction.reduction("mean"),
    "ReduceMin": reduction.reduction("minimum"),
    "ReduceProd": reduction.reduction("product"),
    "ReduceSum": reduction.reduction("sum"),
    "ReduceSumSquare": reduction.sum_square,
    "Relu": activation.relu,
    "Reshape": layout.reshape,
    "Resize": row_or_image(resize.resize),
    "Round": activation.function("round"),
    "Scatter": scatter.scatter_elements,
    "ScatterElements": scatter.scatter_elements,
    "ScatterND": scatter.scatter_nd,
    "Selu": activation.selu,
    "Sigmoid": activation.function("sigmoid"),
    "Sign": activation.function("sign"),
    "Sin": activation.function("sin"),
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
    "ThresholdedRelu": activation.thresholded_relu,
    "Tile": strided.tile,
    "TopK": ranking.top_k,
    "Transpose": strided.transpose,
    "Unsqueeze": layout.reshape,
    "Upsample": row_or_image(resize.resize),
    "Where": selection.where,
    "Xor": logic.one_of_two,
}

SUPPORTED = tuple(sorted(_CONVERTERS))
"""ONNX operator types the engine runs (constants may be computed by any operator)."""


NEWEST_OPSET = 28
"""Up to here what the operators mean is known; a later form may mean something else."""


def can_convert(graph: Graph, node: Node) -> bool:
    """Whether the engine runs a node, as far as can be said without its neighbours."""
    return convert_node(graph, node) is not None


def convert_node(graph: Graph, node: Node) -> list[Node] | None:
    """What the engine runs a node as, by itself; None where it does not."""
    converter = _CONVERTERS.get(node.op)
    if converter is None:
        return None
    try:
        _check_form(graph, node)
        _check_types(graph, node)
        return _converted(converter, Source(_around(graph, node), node))
    except ActivsparseError:
        return None


def _around(graph: Graph, node: Node) -> Graph:
    """What a converter sees of a graph, and may add to."""
    names = [name for name in (*node.inputs, *node.outputs) if name in graph.shapes]
    return replace(graph, shapes={name: graph.shapes[name] for name in names})


def _converted(converter: Converter, source: Source) -> list[Node]:
    """Convert a node; what does not fit together in it comes out in arithmetic on its arrays."""
    try:
        nodes = converter(source)
        return [*source.values, *nodes]
    except (ArithmeticError, LookupError, TypeError, ValueError) as error:
        cause = str(error) or type(error).__name__
        source.wrong(
            f"its inputs and attributes do not fit each other ({cause})", "export it again"
        )


# Operators that give the right integers and truth values where they are held as float32.
_EXACT = (
    *("And", "Cast", "Concat", "DepthToSpace", "Equal", "Expand", "Flatten", "Gather", "GatherND"),
    *("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Reshape", "Scatter"),
    *(
        "ScatterElements",
        "ScatterND",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
        "Where",
        "Xor",
    ),
)


def _check_form(graph: Graph, node: Node) -> None:
    """A later form of an operator may have attributes that a converter would pass over."""
    from onnx import defs

    try:
        since = defs.get_schema(node.op, graph.opset).since_version
    except defs.SchemaError:  # a pass made it of older ones, as norms are spelled
        return
    if since > NEWEST_OPSET:
        raise NodeError(
            node,
            f"{graph.name}: {node.title} is of a form that came with opset {since}, this engine "
            f"knows those up to {NEWEST_OPSET}; export with an older opset",
            *INSTEAD,
        )


def _check_types(graph: Graph, node: Node) -> None:
    types = [str(graph.dtypes[name]) for name in node.inputs if name in graph.dtypes]
    if types and node.op not in _EXACT:
        raise NodeError(
            node,
            f"{graph.name}: {node.title} computes in {types[0]}, this engine in float32; cast its "
            "inputs",
            *INSTEAD,
        )


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
                f"{graph.name}: {node.title}: of quantised operators this engine knows QDQ and the "
                "common ones of QOperator files; quantise as QDQ",
                *INSTEAD,
            )
        if converter is None and node.op == "If":
            raise NodeError(
                node,
                f"{graph.name}: {node.title} chooses by a value that only a run knows; export "
                "without control flow",
                *INSTEAD,
            )
        if converter is None:
            raise NodeError(
                node,
                f"{graph.name}: {node.title} is not an operator this engine runs; "
                "replace it in the model",
                *INSTEAD,
            )
        _check_form(graph, node)
        _check_types(graph, node)
        converted = _converted(converter, Source(graph, node))
        # Outputs beside the first (MaxPool's indices, Dropout's mask) are not computed.
        written = {name for new in converted for name in new.outputs}
        for extra in set(filter(None, node.outputs[1:])) - written:
            if nodes.reads(extra) or extra in graph.outputs:
                raise NodeError(
                    node,
                    f"{graph.name}: {node.title}: its output '{extra}' is used; "
                    "this engine gives the first alone; leave it out",
                    *INSTEAD,
                )
        graph.nodes.extend(converted)
    return graph
