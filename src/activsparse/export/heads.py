"""Which convolutions are a network's head: 1x1 ones whose positions are the answer.

Every position a detector's or segmenter's head computes is a prediction; none can be left out. A
classifier has no such layer, since its last maps are averaged, or multiplied by a matrix.
"""

from __future__ import annotations

import onnx

from activsparse.export.graph import GraphIndex

__all__ = ["is_head"]

# What mixes the positions of a map.
_MIXING = {
    "AveragePool",
    "Einsum",
    "Gemm",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "MatMul",
    "MaxPool",
    "ReduceMax",
    "ReduceMean",
    "ReduceSum",
}
_LEAVING = {"Flatten", "Reshape", "Transpose"}


def is_head(node: onnx.NodeProto, index: GraphIndex) -> bool:
    """Whether a convolution's positions reach the results and nothing mixes them on the way.

    A convolution behind a reshape or transposition (that of YOLOv8's head turns bins into
    distances) works on predictions, not on a map, and mixes nothing.
    """
    waiting = [(str(node.output[0]), False)]
    seen: set[tuple[str, bool]] = set()
    while waiting:
        name, left = waiting.pop()
        for reader in index.consumers.get(name, []):
            if reader.op_type in _MIXING or (reader.op_type == "Conv" and not left):
                return False
            state = left or reader.op_type in _LEAVING
            fresh = {(str(output), state) for output in reader.output} - seen
            seen |= fresh
            waiting.extend(fresh)
    return True
