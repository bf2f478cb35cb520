"""Values of nodes whose inputs are constant, by the rules of the file's operator set.

The onnx package's reference evaluator knows the newest operator sets only: it would read the axes
of an old `Squeeze` from an input that is not there, and take a softmax along one axis where an old
one flattens. So what is older than `_EVALUATED` goes through the package's version converter
first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from activsparse.engine.graph import Array, Graph, Node
from activsparse.engine.passes.proto import node_proto
from activsparse.errors import ActivsparseError

if TYPE_CHECKING:
    import onnx

__all__ = ["evaluate"]

# The operator set the converter is asked for: the newest that all accepted versions of the package
# know, and new enough for each of its evaluators.
_EVALUATED = 20

# Operators the converter passes over although they mean something else in older sets: the first set
# that means what the evaluator computes.
_NOT_CONVERTED = {"Hardmax": 13}

# Operators whose evaluator is wrong: that of LRN leaves the last channel out of its sums.
_WRONG = ("LRN",)


def evaluate(graph: Graph, node: Node) -> dict[str, Array]:
    """Return the values of a node's outputs; all its inputs are constants.

    Raises:
        ActivsparseError: the onnx package cannot compute it.
    """
    from onnx.reference import ReferenceEvaluator

    values = {name: graph.constants[name] for name in node.inputs if name}
    try:
        computed = ReferenceEvaluator(_model(graph, node, values)).run(None, values)
    except Exception as error:
        raise ActivsparseError(
            f"{graph.name}: {node.title} cannot be evaluated on its constant inputs "
            f"({str(error).splitlines()[0] if str(error) else type(error).__name__}); "
            "simplify the model when exporting it"
        ) from error
    names = [name for name in node.outputs if name]
    return {name: np.asarray(value) for name, value in zip(names, computed, strict=True)}


def _model(graph: Graph, node: Node, values: dict[str, Array]) -> onnx.ModelProto:
    from onnx import TensorProto, helper, version_converter

    if node.op in _WRONG:
        raise ValueError(f"the onnx package computes {node.op} wrongly")
    if graph.opset < _NOT_CONVERTED.get(node.op, 0):
        raise ValueError(f"{node.op} of opset {graph.opset} has other rules than today's")
    inputs = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape
        )
        for name, value in values.items()
    ]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None)
        for name in node.outputs
        if name
    ]
    body = helper.make_graph([node_proto(node)], "constants", inputs, outputs)
    opsets = [helper.make_opsetid("", graph.opset)]
    model = helper.make_model(body, opset_imports=opsets, ir_version=8)
    if graph.opset >= _EVALUATED:
        return model
    return version_converter.convert_version(model, _EVALUATED)
