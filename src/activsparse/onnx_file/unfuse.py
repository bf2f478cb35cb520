"""Operators that ONNX Runtime's optimiser makes of several standard ones, as those again.

Files that it has optimised and saved are met outside; what it wrote for one machine only stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

__all__ = ["unfuse"]

_DOMAIN = "com.microsoft"

_FUSED = {"FusedConv": "Conv", "FusedGemm": "Gemm"}

# What an activation's parameters are called, in the order of the attribute that lists them.
_PARAMETERS = {
    "Relu": (),
    "Sigmoid": (),
    "Tanh": (),
    "LeakyRelu": ("alpha",),
    "HardSigmoid": ("alpha", "beta"),
    "Clip": ("min", "max"),
}

# From here on the bounds of a Clip are inputs.
_BOUNDS_AS_INPUTS = 11


def unfuse(graph: onnx.GraphProto, opset: int) -> None:
    """Replace each FusedConv and FusedGemm whose activation is known.

    Args:
        graph: changed in place; sub-graphs stay.
        opset: version of the standard operators.
    """
    if not any(node.domain == _DOMAIN and node.op_type in _FUSED for node in graph.node):
        return
    nodes = list(graph.node)
    taken = {name for node in nodes for name in (*node.input, *node.output)}
    taken |= {tensor.name for tensor in graph.initializer}

    def fresh(name: str) -> str:
        while name in taken:
            name += "_"
        taken.add(name)
        return name

    del graph.node[:]
    for node in nodes:
        parts = _parts(node, opset, fresh) if node.domain == _DOMAIN else None
        graph.node.extend([node] if parts is None else parts)


def _parts(
    node: onnx.NodeProto, opset: int, fresh: Callable[[str], str]
) -> list[onnx.NodeProto] | None:
    """The standard nodes; None of an operator, or an activation, that is not known."""
    from onnx import helper

    if node.op_type not in _FUSED:
        return None
    given = {attribute.name: attribute for attribute in node.attribute}
    activation = given["activation"].s.decode() if "activation" in given else ""
    if (activation and activation not in _PARAMETERS) or len(node.output) != 1:
        return None
    settings = _settings(activation, given) if activation else {}
    if activation == "Clip" and len(settings) < len(_PARAMETERS["Clip"]):
        return None
    output = node.output[0]
    first = helper.make_node(_FUSED[node.op_type], node.input[:3], [output], node.name)
    first.attribute.extend(a for name, a in given.items() if not name.startswith("activation"))
    parts = [first]
    if len(node.input) > 3 and node.input[3]:  # of a FusedConv: what is added before the activation
        parts[-1].output[0] = fresh(f"{output}.conv")
        name = f"{node.name or output}.add"
        inputs = [parts[-1].output[0], node.input[3]]
        parts.append(helper.make_node("Add", inputs, [output], name))
    if activation:
        parts[-1].output[0] = fresh(f"{output}.sum")
        inputs = [parts[-1].output[0]]
        if activation == "Clip" and opset >= _BOUNDS_AS_INPUTS:
            for bound in _PARAMETERS["Clip"]:
                inputs.append(fresh(f"{output}.{bound}"))
                value = helper.make_tensor(bound, 1, (), [settings[bound]])
                parts.append(helper.make_node("Constant", [], inputs[-1:], value=value))
            settings = {}
        last = helper.make_node(activation, inputs, [output], f"{node.name or output}.activation")
        last.attribute.extend(helper.make_attribute(*setting) for setting in settings.items())
        parts.append(last)
    return parts


def _settings(activation: str, given: dict[str, onnx.AttributeProto]) -> dict[str, float]:
    if "activation_params" in given:
        return dict(zip(_PARAMETERS[activation], given["activation_params"].floats, strict=False))
    named = {name: given.get(f"activation_{name}") for name in _PARAMETERS[activation]}
    return {name: value.f for name, value in named.items() if value is not None}
