"""Names for the weights that torch's exporter computes: standardised, parametrised, folded ones."""

from __future__ import annotations

import ast

import onnx
from torch import nn

__all__ = ["name_weights"]

_SCOPES = "pkg.torch.onnx.name_scopes"


def name_weights(proto: onnx.ModelProto, model: nn.Module) -> None:
    """Call the weights of every convolution `<module>.weight`, as those that it holds are.

    Args:
        proto: as torch's exporter made it, with its notes on where nodes come from; changed.
        model: the network it was made of.
    """
    modules = {name for name, module in model.named_modules() if isinstance(module, nn.Conv2d)}
    graph = proto.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    readers: dict[str, int] = {}
    for node in graph.node:
        for name in node.input:
            readers[name] = readers.get(name, 0) + 1
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    for node in graph.node:
        if node.op_type != "Conv" or node.input[1].endswith(".weight"):
            continue
        tensor = initializers.get(node.input[1])
        name = next((f"{scope}.weight" for scope in _scopes(node) if scope in modules), None)
        if tensor is None or name is None or name in taken or readers[tensor.name] > 1:
            continue
        taken.add(name)
        tensor.name = node.input[1] = name


def _scopes(node: onnx.NodeProto) -> list[str]:
    """The modules a node was made in, the innermost first."""
    for entry in node.metadata_props:
        if entry.key == _SCOPES:
            try:
                found = ast.literal_eval(entry.value)
            except (ValueError, SyntaxError):
                return []
            return [str(scope) for scope in reversed(found)]
    return []
