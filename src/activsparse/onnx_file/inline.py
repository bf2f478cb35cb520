"""Model-local functions, replaced by their bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from activsparse.errors import ActivsparseError

if TYPE_CHECKING:
    import onnx

__all__ = ["inline_functions"]

# Functions that call each other several times each grow as a power of their number.
_MOST_NODES = 1_000_000


def inline_functions(model: onnx.ModelProto, file: str) -> onnx.ModelProto:
    """Return a model without functions.

    Raises:
        ActivsparseError: a function calls itself, or their bodies come to too many nodes.
    """
    if not model.functions:
        return model
    from onnx.inliner import inline_local_functions

    if _nodes_of(model, file) > _MOST_NODES:
        raise ActivsparseError(
            f"{file}: its model-local functions hold more than {_MOST_NODES} nodes in all; "
            "export without functions"
        )
    try:
        return inline_local_functions(model)
    except Exception as error:
        cause = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ActivsparseError(
            f"{file}: its model-local functions cannot be inlined ({cause}); "
            "export without functions"
        ) from error


def _nodes_of(model: onnx.ModelProto, file: str) -> int:
    """How many nodes the graph has with all functions in place of their calls."""
    # By domain and name only: overloads of one name count as the same, the largest of them.
    calls: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for function in model.functions:
        body = [(node.domain, node.op_type) for node in function.node]
        key = (function.domain, function.name)
        calls[key] = max(calls.get(key, []), body, key=len)
    counts: dict[tuple[str, str], int] = {}
    begun: set[tuple[str, str]] = set()
    for first in calls:
        waiting = [first]
        while waiting:
            key = waiting[-1]
            inner = [call for call in calls[key] if call in calls]
            left = [call for call in inner if call not in counts]
            if not left:
                counts[key] = len(calls[key]) + sum(counts[call] for call in inner)
                begun.discard(waiting.pop())
            elif key in begun and any(call in begun for call in left):
                raise ActivsparseError(
                    f"{file}: its model-local function '{key[1]}' calls itself; "
                    "export without functions"
                )
            else:
                begun.add(key)
                waiting.append(left[0])
    graph = [(node.domain, node.op_type) for node in model.graph.node]
    return len(graph) + sum(counts.get(key, 0) for key in graph)
