"""Convolutions of bytes that are computed in float32, where Winograd's products are so few.

Sums of bytes need exact products, so Winograd's algorithms do not apply to them. Where a processor
has no instruction for products of bytes that leaves them far behind (AVX2 without AVX-VNNI), a
convolution runs as `dequantise`, a float32 convolution in steps of its output, and `quantise`.
Every value is rounded where the file rounds it; sums are off by what docs/numerics.md says of
Winograd, so that a value next to half way between two bytes may become either.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from activsparse import _native
from activsparse.engine.choose import Request, able
from activsparse.engine.graph import Array, Graph, Node, Scale
from activsparse.engine.memory import ALIGNMENT
from activsparse.errors import ActivsparseError

__all__ = ["mix_in_float"]

# Times in the unit of `_native.estimates`, a multiply-add of float32: of one of bytes, times what
# weights taken apart add, and of an element that is converted. ResNet18's layers take 70 to 85 G
# of the former a second, those in float32 30 to 37 G of that unit, `dequantise` 4 G of the latter
# (Sapphire Rapids, AVX2).
_MAC = 0.36
_CONVERSION = 8.0

# What an estimate has to promise: estimates are off by about a tenth, and sums are exact in bytes.
_SHARE = 0.65

_TAPS = 9
# Where there are fewer, time is not spent on products.
_CHANNELS = 32

_SLOW_BYTES = "avx2"

# A mask's readers may know of it, and its skipped positions hold nothing then.
_NOT_WITH = ("source", "table")
_NOT_AS = ("input_unwritten", "rescaled")


def mix_in_float(graph: Graph, isa: str) -> Graph:
    """Let float32 compute convolutions of bytes where it is estimated to be clearly faster.

    Of an optimised graph. Those nodes have the attribute `in_float`, which says why.

    Args:
        graph: is left as it is.
        isa: instruction set.
    """
    if isa != _SLOW_BYTES or not any(node.op == "conv_u8" for node in graph.nodes):
        return graph
    graph = graph.copy()
    for node in list(graph.nodes):
        share = _share_of_time(graph, node, isa) if _may_mix(graph, node) else None
        if share is not None and share < _SHARE:
            _compute_in_float(graph, node, share)
    return graph


def _may_mix(graph: Graph, node: Node) -> bool:
    if node.op != "conv_u8" or node.output not in graph.scales or len(graph.shape(node.output)) < 4:
        return False
    if any(name in node.arrays for name in _NOT_WITH):
        return False
    if any(node.attributes.get(name, 0) for name in _NOT_AS):
        return False
    # A skipped position holds the zero point, which bounds must not move.
    if not node.attributes["lo"] <= 0 <= node.attributes["hi"]:
        return False
    o, i, *kernel = node.arrays["weight"].shape
    return kernel == [3, 3] and min(o, i) >= _CHANNELS and node.attributes.get("group", 1) == 1


def _desc(graph: Graph, value: str, dtype: str) -> _native.TensorDesc:
    n, c, h, w = graph.shape(value)
    stride = -(-c // ALIGNMENT) * ALIGNMENT
    return _native.TensorDesc(n, h, w, c, stride, padded=True, dtype=dtype)


def _share_of_time(graph: Graph, node: Node, isa: str) -> float | None:
    """The estimated time in float32 over that of bytes; None where either cannot run it."""
    x, y = node.inputs[0], node.output
    bytes_of = [_desc(graph, name, "uint8") for name in node.inputs]
    request = Request(node, bytes_of, [_desc(graph, y, "uint8")])
    floats = Request(
        _convolution(node, x, y), [_desc(graph, x, "float32")], [_desc(graph, y, "float32")]
    )
    try:
        packed = _native.pack(request.spec(), "direct", isa)
        if "vnni" in packed.kernel:
            return None
        names = [name for name in able(floats, isa) if name.startswith("winograd")]
        costs = _native.estimates(floats.spec(), isa, names)
    except ActivsparseError:
        return None
    if not costs:
        return None
    others = 4 * (3 + _TAPS) * len(node.arrays["weight"])  # what sums start from, and their scales
    bytes_read = packed.nbytes - packed.index_bytes - others
    # Products of 16-bit numbers (`native/kernels/words_u8.h`) take a third longer, and no steps.
    words = "16 bits" in packed.kernel
    apart = 4 / 3 if words else max(1.0, bytes_read / node.arrays["weight"].nbytes)
    converted = float(np.prod(graph.shape(x)) + np.prod(graph.shape(y)))
    return (min(costs) + _CONVERSION * converted) / (_MAC * apart * packed.macs)


def _convolution(node: Node, x: str, y: str) -> Node:
    """The same in float32: inputs less their zero point, results in steps from theirs."""
    scale = node.arrays["scale"]
    weight = node.arrays["weight"].astype(np.float32) * scale[:, None, None, None]
    bias = node.arrays.get("bias", np.zeros(len(scale), np.int32)) * scale.astype(np.float64)
    if "shift" in node.arrays:
        bias = bias + node.arrays["shift"]
    arrays: dict[str, Array] = {"weight": weight, "bias": bias.astype(np.float32)}
    arrays |= {name: node.arrays[name] for name in ("mask", "input_mask") if name in node.arrays}
    names = ("group", *(f"{what}_{axis}" for what in ("stride", "dilation") for axis in "hw"))
    pads = (f"pad_{side}" for side in ("top", "left", "bottom", "right"))
    attributes = {
        name: node.attributes[name] for name in (*names, *pads) if name in node.attributes
    }
    return Node("conv", node.name, (x,), (y,), attributes, arrays)


def _compute_in_float(graph: Graph, node: Node, share: float) -> None:
    x, y, a = node.inputs[0], node.output, node.attributes
    wide, sums = f"{y}.input", f"{y}.sums"
    graph.shapes |= {wide: graph.shape(x), sums: graph.shape(y)}
    why = f"in float32: {100 * share:.0f} % of the time on bytes by estimate"
    conv = _convolution(node, wide, sums).with_attributes(in_float=why)
    zero = {"a_scale": 1.0, "a_zero": a["input_zero"]}
    new = [Node("dequantise", f"{node.name} in", (x,), (wide,), zero), conv]
    bounds = {"lo": a["lo"], "hi": a["hi"]}
    to_bytes = Node("quantise", f"{node.name} out", (sums,), (y,), {"a_scale": 1.0, **bounds})
    if len(node.inputs) == 1:
        new.append(to_bytes.with_attributes(zero=a["zero"]))
    else:  # what is rounded before a residual is added has a range of its own
        own, own_zero = f"{y}.own", int(-a["lo"])
        graph.shapes[own] = graph.shape(y)
        graph.scales[own] = Scale(1.0, own_zero)
        new.append(replace(to_bytes, outputs=(own,)).with_attributes(zero=own_zero))
        residual = {
            "a_scale": a["kept"],
            "b_scale": a["residual_scale"],
            "a_zero": own_zero,
            "b_zero": a["residual_zero"],
            "zero": a["zero"],
            "lo": a["residual_lo"],
            "hi": a["residual_hi"],
        }
        new.append(Node("add_u8", f"{node.name} add", (own, node.inputs[1]), (y,), residual))
    graph.nodes.replace(node, *new)
