"""`If` whose condition is known: torch writes one where a script asks for sizes or flags."""

from __future__ import annotations

from typing import TYPE_CHECKING

from activsparse.engine.graph import Graph, Node
from activsparse.engine.passes.proto import node_of, own_inputs
from activsparse.errors import ActivsparseError
from activsparse.onnx_file.bodies import rename

if TYPE_CHECKING:
    import onnx

__all__ = ["branch_taken"]


def branch_taken(graph: Graph, node: Node) -> list[Node] | None:
    """Return the nodes of the branch that an `If` takes, or None where that is not known.

    Values of the branch get names of their own, its constants become nodes; it reads values of the
    graph around it, and writes the outputs of the `If`.

    Raises:
        ActivsparseError: the condition is no truth value, or the branch has other outputs.
    """
    if node.op != "If":
        return None
    condition = graph.constants.get(own_inputs(node)[0])
    if condition is None:
        return None
    if condition.size != 1:
        raise ActivsparseError(
            f"{graph.name}: {node.title} asks for one truth value and is given "
            f"{condition.size}; export it again"
        )
    body: onnx.GraphProto = node.attributes["then_branch" if condition.all() else "else_branch"]
    if len(body.output) != len(node.outputs):
        raise ActivsparseError(
            f"{graph.name}: {node.title} has {len(node.outputs)} outputs, its branch "
            f"'{body.name}' {len(body.output)}; export it again"
        )
    return _inlined(body, node, graph.name)


def _inlined(body: onnx.GraphProto, node: Node, file: str) -> list[Node]:
    from onnx import helper

    written = [name for inner in body.node for name in inner.output if name]
    own = [*(tensor.name for tensor in body.initializer), *written]
    names = {name: f"{node.name}/{name}" for name in own}
    protos = [
        helper.make_node("Constant", [], [tensor.name], tensor.name, value=tensor)
        for tensor in body.initializer
    ]
    protos += [type(inner).FromString(inner.SerializeToString()) for inner in body.node]
    for proto in protos:
        name = proto.name or next(filter(None, proto.output), proto.op_type)
        proto.name = f"{node.name}/{name}"
        rename(proto, names)
    for result, outer in zip(body.output, node.outputs, strict=True):
        if outer:
            source = names.get(result.name, result.name)
            protos.append(helper.make_node("Identity", [source], [outer], outer))
    return [node_of(proto, file) for proto in protos]
