"""The two convolutions a cross stage partial block starts with into one.

Such a block is concat(blocks(main(x)), side(x)), main and side being convolutions alike. Joined
they read x once, and their products are wider. Their output has the concatenation's shape, and
lies in its place: the half that `blocks` read is overwritten by what comes out of them.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from activsparse.engine.graph import Array, Graph, Node
from activsparse.engine.passes.drop_fills import NOT_READ

__all__ = ["join_branches"]

# Whole cache lines, so that no store touches the other half.
_ALIGNMENT = 16

# They read a position before they write it, so they may read what they overwrite.
_IN_PLACE = ("activate", "add", "mask_multiply", "mul", "prelu", "scale_shift")


def join_branches(graph: Graph) -> Graph:
    """Join them, and make an `overwrite` of the concatenation.

    `overwrite` (x, y) is x with its first channels replaced by y. It is no operator: the lowering
    places both in the same memory, so nothing may read those channels of x after y was written.
    """
    graph = graph.copy()
    for concat in [node for node in graph.nodes if node.op == "concat"]:
        side = graph.producer(concat.inputs[-1])
        if len(concat.inputs) != 2 or side is None or not _is_joinable(graph, side):
            continue
        for main in graph.readers(side.inputs[0]):
            if (
                main.inputs[:1] == side.inputs
                and _are_alike(main, side)
                and _can_overwrite(graph, main.output, concat)
            ):
                _join(graph, main, side, concat)
                break
    return graph


def _is_joinable(graph: Graph, side: Node) -> bool:
    half = side.output in graph.halves  # there is no `copy` between types
    return side.op == "conv" and graph.uses(side.output) == 1 and not half


def _are_alike(main: Node, side: Node) -> bool:
    """Whether two convolutions differ in their weights only."""
    if main is side or main.op != "conv" or len(main.inputs) != 1 or len(side.inputs) != 1:
        return False
    if main.attributes != side.attributes or main.attributes.get("group", 1) != 1:
        return False
    if main.arrays.keys() != side.arrays.keys():
        return False
    if main.arrays["weight"].shape[1:] != side.arrays["weight"].shape[1:]:
        return False
    planes = main.arrays.keys() & {"mask", "input_mask"}
    return all(np.array_equal(main.arrays[key], side.arrays[key]) for key in planes) and (
        "source" not in main.arrays or _fill_alike(main.arrays["source"], side.arrays["source"])
    )


def _fill_alike(main: Array, side: Array) -> bool:
    return bool(((main == side) | (main == NOT_READ) | (side == NOT_READ)).all())


def _can_overwrite(graph: Graph, old: str, concat: Node) -> bool:
    """Whether the concatenation's first part may lie where `old` lies."""
    new = concat.inputs[0]
    last = graph.producer(new)
    if last is None or graph.shape(old) != graph.shape(new) or graph.shape(old)[1] % _ALIGNMENT:
        return False
    if old in graph.outputs or new == old:
        return False
    if any(node.op == "flatten" for node in graph.readers(concat.output)):
        return False  # it lies without gaps between its pixels
    place = graph.nodes.place(last)
    return not any(
        node.op not in _IN_PLACE if node is last else graph.nodes.place(node) > place
        for node in graph.readers(old)
    )


def _join(graph: Graph, main: Node, side: Node, concat: Node) -> None:
    whole = f"{main.output} + {side.output}"
    shape = graph.shape(concat.output)
    graph.shapes[whole] = shape
    arrays = {
        key: np.concatenate([array, side.arrays[key]])
        for key, array in main.arrays.items()
        if key in ("weight", "bias", "skipped_value")
    }
    joined = replace(main, name=f"{main.name} + {side.name}", outputs=(whole,))
    if "source" in main.arrays:  # what is read of either
        arrays["source"] = np.maximum(main.arrays["source"], side.arrays["source"])
    half = {"axis": 1, "start": 0, "step": 1}
    graph.nodes.replace(
        main,
        joined.with_arrays(**arrays),
        Node("slice", main.name, (whole,), (main.output,), half),
    )
    graph.nodes.replace(side)
    graph.nodes.replace(concat, replace(concat, op="overwrite", inputs=(whole, concat.inputs[0])))
