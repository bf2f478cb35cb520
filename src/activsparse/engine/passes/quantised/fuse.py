"""What follows convolutions of bytes into them: masks, fills, residuals, scales and tables."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from activsparse.engine.graph import Array, Graph, Node
from activsparse.engine.passes.drop_fills import NOT_READ
from activsparse.engine.passes.fuse import fuse_pairs

__all__ = ["fuse_quantised"]

Live = npt.NDArray[np.bool_]

_PADS = ("pad_top", "pad_left", "pad_bottom", "pad_right")

# Channels of an image of which a pixel is one quad.
_QUAD = 4


def fuse_quantised(graph: Graph) -> Graph:
    """Join operators on bytes, and note where inputs hold nothing but their zero point."""
    if not graph.scales:
        return graph
    while True:
        before = len(graph.nodes)
        graph = fuse_pairs(graph, _fuse)
        if len(graph.nodes) == before:
            return _leave_unread(_frame_images(_zero_positions(graph)))


def _fuse(graph: Graph, first: Node, second: Node) -> Node | None:
    if first.op != "conv_u8" or first.output not in graph.scales or len(first.inputs) > 1:
        return None
    if second.op == "gather_u8":
        return _masked(graph, first, second)
    if second.op == "lookup_u8":
        return _rescaled(first, second) or _looked_up(first, second)
    if second.op == "add_u8":
        return _added(graph, first, second)
    return None


def _masked(graph: Graph, conv: Node, gather: Node) -> Node | None:
    size = graph.shape(gather.output)[2:]
    source = gather.arrays.get("source")
    if source is None or graph.shape(conv.output) != graph.shape(gather.output):
        return None
    mask = (source == np.arange(source.size)).reshape(size).astype(np.uint8)
    dropped, merged = source < 0, replace(conv, outputs=gather.outputs)
    if (dropped | mask.reshape(-1).astype(bool)).all():
        if "source" in conv.arrays or _nothing_of(conv) != gather.attributes["zero"]:
            return None
        return merged.with_arrays(mask=mask & conv.arrays.get("mask", np.uint8(1)))
    kept = np.flatnonzero(mask)
    if dropped.any() or "mask" in conv.arrays or not np.isin(source, kept).all():
        return None
    return merged.with_arrays(mask=mask, source=np.ascontiguousarray(source, np.int32))


def _nothing_of(conv: Node) -> int | None:
    """What a skipped position holds; None where another scale has its say."""
    if "table" not in conv.arrays:
        return int(conv.attributes["zero"])
    if "kept" in conv.attributes:
        return None
    return int(conv.arrays["table"][conv.attributes["zero"]])


def _looked_up(conv: Node, lookup: Node) -> Node | None:
    """Any function of what was rounded; kernels of depthwise convolutions have no table."""
    if conv.attributes.get("group", 1) > 1 and conv.arrays["weight"].shape[1] == 1:
        return None
    table = lookup.arrays["table"]
    if "table" in conv.arrays:
        table = table[conv.arrays["table"]]
    return replace(conv, outputs=lookup.outputs).with_arrays(table=table)


def _rescaled(conv: Node, lookup: Node) -> Node | None:
    a, b = conv.attributes, lookup.attributes
    if "kept" not in b or "kept" in a or "table" in conv.arrays:
        return None
    if "mask" in conv.arrays and not b["lo"] <= 0 <= b["hi"]:
        return None  # skipped positions hold zero, which such a clip makes something else of
    merged = replace(conv, outputs=lookup.outputs)
    if b["kept"] == 1.0 and b["zero"] == a["zero"]:  # a second clip
        lo, hi = (float(np.clip(a[end], b["lo"], b["hi"])) for end in ("lo", "hi"))
        return merged.with_attributes(lo=lo, hi=hi)
    return merged.with_attributes(
        rescaled=1, kept=b["kept"], zero=b["zero"], residual_lo=b["lo"], residual_hi=b["hi"]
    )


def _added(graph: Graph, conv: Node, add: Node) -> Node | None:
    if {"source", "table"} & set(conv.arrays) or "kept" in conv.attributes:
        return None
    if add.inputs[0] == add.inputs[1]:
        return None
    a = add.attributes
    own, other = ("a", "b") if add.inputs[0] == conv.output else ("b", "a")
    residual = next(name for name in add.inputs if name != conv.output)
    if graph.shape(residual) != graph.shape(conv.output):
        return None
    merged = replace(conv, inputs=(conv.inputs[0], residual), outputs=add.outputs)
    return merged.with_attributes(
        kept=a[f"{own}_scale"],
        residual_scale=a[f"{other}_scale"],
        residual_zero=a[f"{other}_zero"],
        zero=a["zero"],
        residual_lo=a["lo"],
        residual_hi=a["hi"],
    )


def _frame_images(graph: Graph) -> Graph:
    """Let an image be quantised into a frame of zero points, which a first convolution then reads.

    Of at most four channels, taps side by side are one run of bytes then.
    """
    graph = graph.copy()
    for conv in list(graph.nodes):
        quantise = graph.producer(conv.inputs[0]) if conv.op == "conv_u8" else None
        if quantise is None or quantise.op != "quantise" or graph.uses(conv.inputs[0]) != 1:
            continue
        image = quantise.inputs[0]
        pads = {name: int(conv.attributes.get(name, 0)) for name in _PADS}
        if image not in graph.inputs or graph.uses(image) != 1 or not any(pads.values()):
            continue
        n, c, h, w = (*graph.shape(image), 1, 1)[:4]
        if c > _QUAD or len(graph.shape(image)) != 4:
            continue
        framed = f"{conv.inputs[0]}.framed"
        size = (h + pads["pad_top"] + pads["pad_bottom"], w + pads["pad_left"] + pads["pad_right"])
        graph.shapes[framed] = (n, c, *size)
        graph.scales[framed] = graph.scales[conv.inputs[0]]
        frame = {name: pads[name] for name in ("pad_top", "pad_left")}
        filled = replace(quantise, outputs=(framed,)).with_attributes(**frame)
        graph.nodes.replace(quantise, filled)
        inputs = (framed, *conv.inputs[1:])
        unpadded = replace(conv, inputs=inputs).with_attributes(**dict.fromkeys(_PADS, 0))
        graph.nodes.replace(conv, unpadded)
    return graph


def _leave_unread(graph: Graph) -> Graph:
    """Leave skipped positions unwritten where all readers know that they hold the zero point."""
    graph = graph.copy()
    for name in [node.output for node in graph.nodes if node.op == "conv_u8"]:
        conv, readers = graph.producer(name), graph.readers(name)
        if conv is None or len(conv.inputs) > 1 or name in graph.outputs:
            continue
        if "mask" not in conv.arrays or "source" in conv.arrays:
            continue
        mask = conv.arrays["mask"]
        if not all(_knows(reader, name, mask) for reader in readers):
            continue
        nobody = np.where(mask.reshape(-1), np.arange(mask.size), NOT_READ)
        graph.nodes.replace(conv, conv.with_arrays(source=nobody.astype(np.int32)))
        for reader in readers:
            graph.nodes.replace(reader, reader.with_attributes(input_unwritten=1))
    return graph


def _knows(reader: Node, value: str, mask: Array) -> bool:
    if reader.op != "conv_u8" or reader.inputs[0] != value or reader.inputs.count(value) > 1:
        return False
    known = reader.arrays.get("input_mask")
    return known is not None and np.array_equal(known, mask)


def _zero_positions(graph: Graph) -> Graph:
    """Give convolutions the `input_mask` of inputs that are the zero point for any input."""
    graph = graph.copy()
    live: dict[str, Live] = {}
    for node in graph.nodes:
        shape = graph.shape(node.output)
        if len(shape) != 4:
            continue
        if node.op == "conv_u8" and node.inputs[0] in live:
            mask = np.ascontiguousarray(live[node.inputs[0]], np.uint8)
            graph.nodes.replace(node, node.with_arrays(input_mask=mask))
        plane = _live(graph, node, live, shape[2:])
        if plane is not None and not plane.all():
            live[node.output] = plane
    return graph


def _live(graph: Graph, node: Node, live: dict[str, Live], size: tuple[int, ...]) -> Live | None:
    """Positions that may hold more than the zero point; None where nothing is known."""
    if node.output not in graph.scales:
        return None

    def plane_of(name: str) -> Live:
        """What is known of an operand, everything where it is one position for all."""
        return np.broadcast_to(live.get(name, np.ones((1, 1), bool)), size)

    plane: Live
    if node.op == "conv_u8":
        if "mask" not in node.arrays or "source" in node.arrays:
            return None
        if "table" in node.arrays and _nothing_of(node) != graph.scales[node.output].zero:
            return None
        planes = [plane_of(residual) for residual in node.inputs[1:]]
        plane = np.logical_or.reduce([node.arrays["mask"].astype(bool), *planes])
    elif node.op == "gather_u8":
        if node.attributes["zero"] != graph.scales[node.output].zero:
            return None  # a frame of something else
        before = live.get(node.inputs[0], np.ones(graph.shape(node.inputs[0])[2:], bool))
        source = node.arrays.get("source", np.arange(before.size))
        plane = ((source >= 0) & before.reshape(-1)[source]).reshape(size)
    elif node.op == "lookup_u8":
        at, scale = graph.scales[node.inputs[0]], graph.scales[node.output]
        if node.arrays["table"][at.zero] != scale.zero:
            return None
        plane = plane_of(node.inputs[0])
    elif node.op == "mul_u8":
        plane = np.logical_and.reduce([plane_of(name) for name in node.inputs])
    elif node.op in ("concat", "add_u8"):
        plane = np.logical_or.reduce([plane_of(name) for name in node.inputs])
    else:
        return None
    return plane
