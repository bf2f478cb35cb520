"""Names for the weights of an export: `<module>.weight`, whatever torch's exporter made of them.

It computes standardised and parametrised weights, and keeps equal ones, or those that modules
share, once.
"""

from __future__ import annotations

import ast

import onnx
from torch import nn

__all__ = ["name_weights"]

_SCOPES = "pkg.torch.onnx.name_scopes"


def name_weights(proto: onnx.ModelProto, model: nn.Module) -> None:
    """Call the weights of every convolution after its module; where several read one, copy it.

    Args:
        proto: as torch's exporter made it, with its notes on where nodes come from; changed.
        model: the network it was made of.
    """
    names = {id(module): name for name, module in model.named_modules()}
    graph = proto.graph
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for tensor in list(initializers.values()):
        of_module: dict[str, list[onnx.NodeProto]] = {}
        for node in readers.get(tensor.name, ()):
            if node.op_type == "Conv" and node.input[1] == tensor.name:
                module = _module(node, model, names)
                if module is not None:
                    of_module.setdefault(f"{module}.weight", []).append(node)
        alone = sum(map(len, of_module.values())) == len(readers.get(tensor.name, ()))
        kept = tensor.name in of_module or not alone
        for name, nodes in of_module.items():
            if name in taken:
                continue
            taken.add(name)
            own = tensor
            if kept:
                own = graph.initializer.add()
                own.CopyFrom(tensor)
            own.name, kept = name, True
            for node in nodes:
                node.input[1] = name


def _module(node: onnx.NodeProto, model: nn.Module, names: dict[int, str]) -> str | None:
    """The first name of the convolution that a node was made in; the innermost one."""
    for entry in node.metadata_props:
        if entry.key != _SCOPES:
            continue
        try:
            scopes = ast.literal_eval(entry.value)
        except (ValueError, SyntaxError):
            return None
        for scope in reversed(scopes):
            try:
                module = model.get_submodule(str(scope))
            except AttributeError:
                continue
            if isinstance(module, nn.Conv2d):
                return names.get(id(module))
    return None
