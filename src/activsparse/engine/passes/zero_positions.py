"""Where activations are zero in all channels for any input: what masks leave to later layers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from activsparse.engine.graph import Graph, Node
from activsparse.engine.passes.activations import apply, keeps_zero

__all__ = ["zero_positions"]

_POINTWISE = ("activate", "add", "concat", "gather_positions", "mask_multiply", "mul", "prelu")

Live = npt.NDArray[np.bool_]


def zero_positions(graph: Graph) -> Graph:
    """Give every convolution whose input has known zeros its `input_mask` (docs/operators.md)."""
    graph = graph.copy()
    live: dict[str, Live] = {}
    for node in graph.nodes:
        if node.op == "conv" and node.inputs[0] in live:
            mask = np.ascontiguousarray(live[node.inputs[0]], dtype=np.uint8)
            graph.nodes.replace(node, node.with_arrays(input_mask=mask))
        plane = _live_output(graph, node, live)
        if plane is not None and not plane.all():
            live[node.output] = plane
    return graph


def _live_output(graph: Graph, node: Node, live: dict[str, Live]) -> Live | None:
    """Positions that may hold something other than zero, or None where nothing is known."""
    if len(graph.shape(node.output)) != 4:
        return None
    size = graph.shape(node.output)[2:]
    if node.op == "conv":
        return _live_conv(node, [_plane(name, live, size) for name in node.inputs[1:]])
    if node.op not in _POINTWISE or not keeps_zero(node):
        return None
    planes = [_plane(name, live, size) for name in node.inputs]
    plane: Live
    if node.op == "mask_multiply":
        plane = planes[0] & node.arrays["mask"].astype(bool)
    elif node.op == "gather_positions":
        plane = planes[0].reshape(-1)[node.arrays["source"]].reshape(size)
    elif node.op == "mul":
        plane = np.logical_and.reduce(planes)
    else:
        plane = np.logical_or.reduce(planes)
    return plane


def _plane(value: str, live: dict[str, Live], size: tuple[int, ...]) -> Live:
    """What is known of an operand, repeated over the image if it has one position only."""
    plane = live.get(value)
    return np.ones(size, dtype=bool) if plane is None else np.broadcast_to(plane, size)


def _live_conv(node: Node, residual: list[Live]) -> Live | None:
    if "mask" not in node.arrays or "source" in node.arrays:
        return None
    skipped = node.arrays.get("skipped_value", np.zeros(1))
    computed: Live = node.arrays["mask"].astype(bool)
    if residual:
        # The residual is added before the activation: only plain zeros on both sides stay zero.
        return (computed | residual[0]) if keeps_zero(node) and not skipped.any() else None
    return computed if not apply(node.attributes, skipped).any() else None
