"""Masks and nearest fills into the convolution that can skip the positions they overwrite."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from activsparse.engine.graph import Graph, Node
from activsparse.engine.passes.activations import activation_of, has_activation, keeps_zero
from activsparse.engine.passes.fuse import fuse_pairs

__all__ = ["fuse_mask", "obstacle"]


def fuse_mask(graph: Graph) -> Graph:
    """Give every convolution the mask that directly follows it."""
    return fuse_pairs(graph, _fuse)


def obstacle(graph: Graph, node: Node) -> str:
    """Return why a `mask_multiply` or `gather_positions` does not become skipped work, or ''."""
    conv = graph.producer(node.inputs[0])
    if conv is None or conv.op != "conv":
        made = "the graph's input" if conv is None else f"{conv.op} '{conv.name}'"
        return f"the mask acts on {made}, not directly on a convolution"
    if graph.uses(conv.output) != 1:
        return f"the unmasked output of '{conv.name}' is used elsewhere too"
    if has_activation(conv) and has_activation(node):
        return f"activations stand before and behind the mask of '{conv.name}'"
    if len(conv.inputs) == 2:
        return f"a residual is added to '{conv.name}' before the mask"
    if node.op == "mask_multiply":
        if not keeps_zero(conv):
            activation = conv.attributes["activation"]
            return f"'{activation}' of zero is not zero: put the mask before it"
        if "source" in conv.arrays:
            return f"'{conv.name}' fills its skipped positions already"
        if "mask" in conv.arrays and not _is_subset(conv, node):
            return f"'{conv.name}' has a mask of non-zero skipped values already"
    else:
        source = node.arrays["source"]
        if (source[source] != source).any():
            return "the fill reads positions that are filled themselves"
        if "mask" in conv.arrays:
            return f"'{conv.name}' has a mask already"
    return ""


def _is_subset(conv: Node, node: Node) -> bool:
    """Whether the second mask erases everything the first one filled with non-zero values."""
    values = conv.arrays.get("skipped_value")
    if values is None or not values.any():
        return True
    return not (node.arrays["mask"] > conv.arrays["mask"]).any()


def _fuse(graph: Graph, first: Node, second: Node) -> Node | None:
    if second.op not in ("mask_multiply", "gather_positions"):
        return None
    if first.op != "conv" or obstacle(graph, second):
        return None
    merged = replace(first, outputs=second.outputs).with_attributes(**activation_of(second))
    if second.op == "mask_multiply":
        mask = second.arrays["mask"]
        if "mask" in first.arrays:
            mask = mask & first.arrays["mask"]
        arrays = {key: value for key, value in first.arrays.items() if key != "skipped_value"}
        return replace(merged, arrays={**arrays, "mask": mask})
    source = second.arrays["source"]
    h, w = graph.shape(second.output)[2:]
    mask = (source == np.arange(source.size, dtype=source.dtype)).reshape(h, w).astype(np.uint8)
    return merged.with_arrays(mask=mask, source=source)
