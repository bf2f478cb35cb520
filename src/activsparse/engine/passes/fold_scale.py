"""Scale and shift per channel (norms, biases, layer scale) into the layer before them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from activsparse.engine.graph import Array, Graph, Node
from activsparse.engine.passes.activations import activation_of, has_activation
from activsparse.engine.passes.fuse import fuse_pairs

__all__ = ["fold_scale"]


def fold_scale(graph: Graph) -> Graph:
    """Fold every `scale_shift` that directly follows a conv, gemm, `normalize` or `scale_shift`.

    It passes through a mask that is already part of the convolution: with y = m * conv(x), s * y +
    t equals s * conv(x) + t where m is 1, and s * v + t where it is 0, v being the skipped value so
    far.
    """
    return fuse_pairs(graph, _fold)


def _fold(graph: Graph, first: Node, second: Node) -> Node | None:
    if second.op != "scale_shift" or has_activation(first):
        return None
    scale, shift = (second.arrays[name].astype(np.float64) for name in ("scale", "shift"))
    if first.op in ("normalize", "scale_shift"):
        arrays = {
            "scale": _float32(first.arrays["scale"] * scale),
            "shift": _float32(first.arrays["shift"] * scale + shift),
        }
    elif first.op in ("conv", "gemm") and len(first.inputs) == 1:
        weight = first.arrays["weight"]
        arrays = dict(first.arrays)
        arrays["weight"] = _float32(weight * scale.reshape(-1, *[1] * (weight.ndim - 1)))
        arrays["bias"] = _float32(first.arrays.get("bias", 0.0) * scale + shift)
        if "mask" in arrays and "source" not in arrays:
            arrays["skipped_value"] = _float32(arrays.get("skipped_value", 0.0) * scale + shift)
    else:
        return None
    merged = replace(first, outputs=second.outputs, arrays=arrays)
    return merged.with_attributes(**activation_of(second))


def _float32(values: Array) -> Array:
    return np.ascontiguousarray(values, dtype=np.float32)
