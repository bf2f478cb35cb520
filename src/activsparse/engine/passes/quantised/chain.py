"""What stands between an operator and the `QuantizeLinear` of its result: clips, masks, fills.

Clips that leave zero alone and what overwrites whole positions may change places, so that one
operator on bytes clips, and `gather_u8` behind it skips or copies.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from activsparse.engine.graph import Array, Graph, Node
from activsparse.engine.passes.convert import convert_node

__all__ = ["Chain", "chain_before", "limits_of", "mask_of"]

# A mask among the constants of a quantised file is off by the rounding of its scale.
_MASK_TOLERANCE = 1e-4


@dataclass
class Chain:
    """From the operator on, in order.

    Attributes:
        node: the operator; None where the chain starts at an input.
        value: its result.
        clips: `Clip` and `Relu` nodes.
        moves: what overwrites positions: the name of each, and where pixels come from, int32
            (H*W), -1 for zero.
        nodes: all but `node`.
    """

    node: Node | None
    value: str
    clips: list[Node] = field(default_factory=list)
    moves: list[tuple[str, Array]] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)


def chain_before(graph: Graph, value: str) -> Chain:
    """Follow a value back over nodes whose results nobody else reads."""
    chain = Chain(graph.producer(value), value)
    keeps_zero = True  # of the clips so far, which are those behind
    while (node := chain.node) is not None and graph.uses(node.outputs[0]) == 1:
        if node.op in ("Clip", "Relu"):
            limits = limits_of(graph, node)
            keeps_zero &= limits is not None and limits[0] <= 0.0 <= limits[1]
            chain.clips.insert(0, node)
        elif node.op == "gather_positions":
            chain.moves.insert(0, (node.name, node.arrays["source"]))
        elif keeps_zero and (source := mask_of(graph, node)) is not None:
            chain.moves.insert(0, (node.name, source))
        else:
            break
        chain.nodes.insert(0, node)
        chain.value = next(name for name in node.inputs if name not in graph.constants)
        chain.node = graph.producer(chain.value)
    return chain


def limits_of(graph: Graph, clip: Node) -> tuple[float, float] | None:
    """The least and the largest value that a `Clip` or `Relu` leaves; None where a run decides."""
    converted = convert_node(graph, clip)
    if converted is None or len(converted) != 1:
        return None
    a = converted[0].attributes
    low = 0.0 if a.get("activation") == "relu" else float(a.get("lo", -np.inf))
    return low, float(a.get("hi", np.inf))


def mask_of(graph: Graph, node: Node, tolerance: float = _MASK_TOLERANCE) -> Array | None:
    """Where the pixels of a masked value come from, int32 (H*W), -1 for zero; None if it is none.

    A mask is a constant factor of zeros and ones, one for each position.
    """
    if node.op != "Mul":
        return None
    constants = [name for name in node.inputs if name in graph.constants]
    shape = graph.shape(node.outputs[0])
    if len(constants) != 1 or len(shape) != 4:
        return None
    if any(graph.shape(name) != shape for name in node.inputs if name not in constants):
        return None
    plane = np.broadcast_to(graph.constants[constants[0]], shape)
    if (plane != plane[:1, :1]).any():
        return None
    plane = plane[0, 0].reshape(-1)
    ones = plane != 0
    if not ones.any() or np.abs(plane[ones] - 1).max() > tolerance:
        return None
    return None if ones.all() else np.where(ones, np.arange(ones.size), -1).astype(np.int32)
