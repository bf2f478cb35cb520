"""Types and sizes of what operators of other domains give, as ONNX Runtime's tool knows them.

Without them everything behind such an operator would be foreign, too, for nobody knew its size.
"""

from __future__ import annotations

import logging

import onnx

from activsparse.onnx_file.check import STANDARD

__all__ = ["foreign_types"]

_log = logging.getLogger(__name__)


def foreign_types(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Outputs of a model's foreign nodes whose type and sizes are known.

    None where ONNX Runtime or its tool's sympy is not installed, or the tool does not know one of
    the operators.
    """
    foreign = [node for node in model.graph.node if node.domain not in STANDARD]
    if not foreign:
        return []
    try:
        inferred = _inferred(model)
    # A script that raises whatever it meets.
    except Exception as error:
        _log.debug("sizes behind foreign operators stay open: %s", error)
        return []
    given = {name for node in foreign for name in node.output if name}
    return [
        value
        for value in (*inferred.value_info, *inferred.output)
        if value.name in given and _is_known(value.type)
    ]


def _is_known(kind: onnx.TypeProto) -> bool:
    tensor = kind.tensor_type
    return (
        kind.HasField("tensor_type")
        and tensor.elem_type != onnx.TensorProto.UNDEFINED
        and tensor.HasField("shape")
        and all(dim.dim_value > 0 for dim in tensor.shape.dim)
    )


def _inferred(model: onnx.ModelProto) -> onnx.GraphProto:
    """As far as the tool gets; its own `infer_shapes` would leave a file in the working folder."""
    from onnxruntime.tools import symbolic_shape_infer as tool

    tool.logger.disabled = True
    try:
        inference = tool.SymbolicShapeInference(
            2**31 - 1, auto_merge=True, guess_output_rank=False, verbose=0
        )
        inference._preprocess(model)
        while inference.run_:
            inference._infer_impl()
        inference._update_output_from_vi()
    finally:
        tool.logger.disabled = False
    graph: onnx.GraphProto = inference.out_mp_.graph
    return graph
