"""The largest and smallest elements along an axis, and where they are."""

from __future__ import annotations

from activsparse.engine.graph import Node
from activsparse.engine.passes.convert.chain import Chain
from activsparse.engine.passes.convert.source import EXACT, Source

__all__ = ["arg_extreme", "top_k"]


def arg_extreme(source: Source) -> list[Node]:
    """ArgMax and ArgMin; of equal elements the first."""
    axis, size = _axis(source, 0)
    if source.attribute("select_last_index", 0):
        source.fail("it selects the last of equal elements", "leave select_last_index at 0")
    chain = Chain(source)
    shape = list(source.shape())
    shape[axis] = 1
    place = chain.add(
        "top_k",
        source.activation(),
        shape=shape,
        axis=axis,
        size=size,
        smallest=int(source.node.op == "ArgMin"),
        indices=1,
    )
    if tuple(shape) != source.output_shape:
        place = chain.reshape(place, source.output_shape)
    return chain.done(place)


def top_k(source: Source) -> list[Node]:
    """TopK: values and indices, each by a search of its own."""
    axis, size = _axis(source, -1)
    if not source.has(1) and source.attribute("k") is None:
        source.wrong("its k is missing", "export the model again")
    if source.has(1):
        source.constant(1, "k")
    smallest = int(not source.attribute("largest", 1))
    x, nodes = source.activation(), []
    for indices, name in enumerate(source.node.outputs):
        if name:
            attributes = {"axis": axis, "size": size, "smallest": smallest, "indices": indices}
            nodes.append(Node("top_k", source.node.name, (x,), (name,), attributes))
    return nodes


def _axis(source: Source, default: int) -> tuple[int, int]:
    """The axis that is searched, and its size."""
    shape = source.shape()
    axis = int(source.attribute("axis", default)) % len(shape)
    if shape[axis] > EXACT:
        source.fail(f"it searches {shape[axis]} elements", f"{EXACT} are the most")
    return axis, shape[axis]
