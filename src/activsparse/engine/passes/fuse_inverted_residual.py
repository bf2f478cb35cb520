"""1x1 or stem - depthwise - 1x1 into one operator that runs them strip by strip in cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np

from activsparse.engine.graph import Graph, Node

__all__ = ["STAGES", "fuse_inverted_residual", "stages_of"]

STAGES = ("expand", "depthwise", "project")
"""Prefixes of the attributes and arrays of an `inverted_residual`; 'name' is the layer's."""

# Most channels of a graph input that is read as NCHW.
_STEM_CHANNELS = 4

# How many rows away what an expansion's skipped positions take their values from may lie: a strip
# keeps so many more in cache.
_MOST_ROWS = 4

# What leaves a cache of 1 MiB (floats of the widest tensor between the stages): below, strips save
# nothing and their many small products cost a little. With masks they also save the filling of
# skipped positions.
_LARGE_DENSE = (512 << 10) // 4
_LARGE_MASKED = (256 << 10) // 4

# Every strip reads all weights of the 1x1 stages, which are in no near cache where they are many
# times what lies between the stages: with 15 times (1536 channels to as many on 14x14) strips take
# 13.0 ms, the layers one by one 8.7 (AVX-512, Sapphire Rapids).
_MOST_WEIGHTS = 4

# Rows of a thread's share. Each expands again what its neighbour's last rows see: 2 of 6 for 3x3.
_FEWEST_ROWS = 6


def fuse_inverted_residual(graph: Graph, threads: int = 1) -> Graph:
    """Join depthwise convolutions with the 1x1 convolutions around them where that pays.

    Args:
        graph: after `drop_fills`.
        threads: among which an operator's rows are divided.
    """
    graph = graph.copy()
    for middle in [node for node in graph.nodes if _is_depthwise(graph, node)]:
        before = graph.producer(middle.inputs[0])
        if before is None or graph.uses(before.output) != 1 or len(before.inputs) != 1:
            before = None
        after = graph.only_consumer(middle.output)
        if after is not None and after.inputs[0] != middle.output:
            after = None
        chain = {
            "expand": before if _expands(graph, before) else None,
            "depthwise": middle,
            "project": after if after is not None and _is_pointwise(after) else None,
        }
        stages = {prefix: node for prefix, node in chain.items() if node is not None}
        if len(stages) > 1 and _pays(graph, stages, threads):
            _join(graph, stages)
    return graph


def stages_of(node: Node) -> dict[str, Node]:
    """Return the convolutions an `inverted_residual` consists of, by prefix."""
    stages = {}
    for prefix in STAGES:
        attributes = _stripped(node.attributes, prefix)
        if attributes:
            arrays = _stripped(node.arrays, prefix)
            stages[prefix] = Node("conv", attributes.pop("name"), (), (), attributes, arrays)
    return stages


def _stripped(values: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    start = prefix + "."
    return {key[len(start) :]: value for key, value in values.items() if key.startswith(start)}


def _join(graph: Graph, stages: Mapping[str, Node]) -> None:
    first, *_, last = stages.values()
    joined = Node(
        "inverted_residual",
        f"{first.name} ... {last.name}",
        (first.inputs[0], *last.inputs[1:]),
        last.outputs,
        {
            f"{prefix}.{key}": value
            for prefix, node in stages.items()
            for key, value in {**node.attributes, "name": node.name}.items()
        },
        {
            f"{prefix}.{key}": value
            for prefix, node in stages.items()
            for key, value in node.arrays.items()
        },
    )
    for node in stages.values():
        graph.nodes.replace(node, *([joined] if node is last else []))


def _pays(graph: Graph, stages: Mapping[str, Node], threads: int) -> bool:
    middle = stages["depthwise"]
    n, _, rows, _ = graph.shape(middle.output)
    if threads > 1 and n * rows < _FEWEST_ROWS * threads:
        return False
    wide = []
    if "expand" in stages:
        wide.append(middle.inputs[0])
    if "project" in stages:
        wide.append(middle.output)
    floats = max(int(np.prod(graph.shape(value)[1:])) for value in wide)
    masked = any("mask" in node.arrays for node in stages.values())
    weights = sum(node.arrays["weight"].size for node in stages.values() if node is not middle)
    if weights > _MOST_WEIGHTS * floats:
        return False
    return floats > (_LARGE_MASKED if masked else _LARGE_DENSE)


def _expands(graph: Graph, node: Node | None) -> TypeGuard[Node]:
    if node is None or not (_is_pointwise(node) or _is_stem(graph, node)):
        return False
    return _is_near(graph, node)


def _is_near(graph: Graph, node: Node) -> bool:
    """Whether every filled position takes the value of one within few rows."""
    if "source" not in node.arrays:
        return True
    width = graph.shape(node.output)[3]
    source = node.arrays["source"].astype(np.int64)
    rows = np.abs(source // width - np.arange(source.size) // width)
    return bool(rows[source >= 0].max(initial=0) <= _MOST_ROWS)


def _is_stem(graph: Graph, node: Node) -> bool:
    """Whether a convolution can read the graph's input where it lies, as `conv/stem` does."""
    value = node.inputs[0]
    return (
        node.op == "conv"
        and value in graph.inputs
        and graph.uses(value) == 1
        and node.attributes.get("group", 1) == 1
        and graph.shape(value)[1] <= _STEM_CHANNELS
    )


def _is_pointwise(node: Node) -> bool:
    attributes = node.attributes
    pads = [attributes.get(f"pad_{side}", 0) for side in ("top", "left", "bottom", "right")]
    return (
        node.op == "conv"
        and node.arrays["weight"].shape[2:] == (1, 1)
        and attributes.get("group", 1) == attributes.get("stride_h", 1) == 1
        and attributes.get("stride_w", 1) == 1
        and not any(pads)
    )


def _is_depthwise(graph: Graph, node: Node) -> bool:
    if node.op != "conv" or len(node.inputs) != 1 or node.output in graph.halves:
        return False
    attributes, shape = node.attributes, node.arrays["weight"].shape
    strides = attributes.get("stride_h", 1), attributes.get("stride_w", 1)
    dilations = attributes.get("dilation_h", 1), attributes.get("dilation_w", 1)
    channels = graph.shape(node.inputs[0])[1]
    return (
        attributes.get("group", 1) == channels == shape[0]
        and shape[2:] in ((3, 3), (5, 5))
        and strides in ((1, 1), (2, 2))
        and dilations == (1, 1)
        and node.inputs[0] not in graph.inputs
    )
