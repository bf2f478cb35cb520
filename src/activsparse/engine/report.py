"""What the engine made of each operator: the rows of `activsparse explain`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from activsparse import _native
from activsparse.engine.graph import Graph, Node
from activsparse.engine.passes.fuse_inverted_residual import stages_of
from activsparse.engine.passes.fuse_mask import obstacle
from activsparse.masks.mean import Savings

__all__ = ["CONVOLUTIONS", "NodeReport", "dense_macs", "report_of", "savings_of"]

CONVOLUTIONS = ("conv", "conv_max_pool", "conv_u8", "inverted_residual")
_KEEPS_ALL = "dense: the mask keeps every position"
_MASKS = ("mask_multiply", "gather_positions")


@dataclass(frozen=True)
class NodeReport:
    """One operator of a plan.

    Attributes:
        name: the layer's name (of its weight, where that has one) or the ONNX node's.
        kind: operator kind, docs/operators.md.
        algorithm: the algorithm that runs it.
        kernel: its inner loop, for example "avx512 6x64".
        shape: of the result, (N, C, H, W) or (N, F).
        eligible: the operator is a convolution whose mask the engine turns into skipped work.
        reason: why it is not eligible; of `quantise` and `dequantise`, who works in float32.
        requested: sparsity asked for when the mask was made, where the file notes it, else the
            sparsity of the mask; None without a mask. Several convolutions in one operator give
            their mean, weighted by multiply-adds, here and in `sparsity`.
        achieved: share of the algorithm's own multiply-adds that the mask saves; for algorithms
            that skip single positions the requested sparsity, for others what is left of it after
            rounding to their tiles.
        macs: multiply-adds done per run, as counted by the algorithm.
        dense_macs: multiply-adds of the definition, without mask.
        sparsity: share of positions that the mask leaves out; None without a mask.
        masked_macs: what of `dense_macs` is of convolutions with a mask.
        weight_type: of packed weights: `float32`, `float16` or `int8`; '' without any.
        longest_share: the longest thread's share of the work over the mean, by estimate.
        weight_bytes: packed constants without index data.
        index_bytes: row lists and tables that say which positions are computed.
        time_ms: median time, after `Session.profile`.
        candidates: (algorithm, milliseconds) of all algorithms that could run it, timed by
            themselves when the model was compiled; None where nothing was measured.
    """

    name: str
    kind: str
    algorithm: str
    kernel: str
    shape: tuple[int, ...]
    eligible: bool
    reason: str
    requested: float | None
    achieved: float | None
    macs: float
    dense_macs: float
    weight_bytes: int
    index_bytes: int
    time_ms: float | None = None
    candidates: tuple[tuple[str, float | None], ...] = ()
    longest_share: float = 1.0
    sparsity: float | None = None
    masked_macs: float = 0.0
    weight_type: str = ""

    @property
    def precision(self) -> str:
        """What it computes on: `int8`, `float16`, `float32`, or that with `float16 weights`."""
        if " float16" in self.kernel:
            return "float16"
        if self.weight_type == "float16":
            return "float16 weights"
        return "int8" if self.kind.endswith("_u8") or " int8 " in self.kernel else "float32"

    @property
    def wastes_mask(self) -> bool:
        """Whether a mask that drops positions saves no work here."""
        return bool(self.requested) and not self.eligible and self.reason != _KEEPS_ALL


def dense_macs(graph: Graph, node: Node) -> float:
    """Return the multiply-adds of an operator's definition; most kinds have none."""
    if node.op == "inverted_residual":
        return sum(_stage_macs(graph, node).values())
    if "weight" not in node.arrays:
        return 0.0
    n, *positions = graph.shape(node.output)[:1] + graph.shape(node.output)[2:]
    if node.op == "conv_max_pool":  # the output is smaller than the convolution's
        _, _, h, w = graph.shape(node.inputs[0])
        positions = [
            _size(node, h, "h", ("top", "bottom"), 2),
            _size(node, w, "w", ("left", "right"), 3),
        ]
    weight = node.arrays["weight"]
    taps = math.prod(weight.shape[2:])
    # A kernel may have lost those that meet no input (see `crop_kernels`).
    per_position = weight.size // taps * node.attributes.get("taps", taps)
    return float(n * np.prod(positions, dtype=np.float64) * per_position)


def _stage_macs(graph: Graph, node: Node) -> dict[str, float]:
    """Dense multiply-adds of an `inverted_residual`'s stages."""
    macs = {}
    for prefix, stage in stages_of(node).items():
        # The others work at the size of the output.
        n, _, h, w = graph.shape(node.output)
        if prefix == "expand":
            _, _, h, w = graph.shape(node.inputs[0])
            h = _size(stage, h, "h", ("top", "bottom"), 2)
            w = _size(stage, w, "w", ("left", "right"), 3)
        macs[prefix] = float(n * h * w * stage.arrays["weight"].size)
    return macs


def _size(conv: Node, size: int, axis: str, sides: tuple[str, str], dimension: int) -> int:
    """Rows or columns of a convolution's output, from those of its input."""
    kernel = conv.arrays["weight"].shape[dimension]
    reach = conv.attributes.get(f"dilation_{axis}", 1) * (kernel - 1) + 1
    padded = size + sum(conv.attributes.get(f"pad_{side}", 0) for side in sides)
    return int((padded - reach) // conv.attributes.get(f"stride_{axis}", 1) + 1)


def _joined_sparsity(graph: Graph, node: Node, noted: bool) -> float | None:
    """The sparsity of an `inverted_residual`'s masks together, None without any; see `Savings`.

    Args:
        graph: the graph.
        node: the operator.
        noted: take the sparsities asked for where the file notes them.
    """
    macs, layers = _stage_macs(graph, node), []
    for prefix, stage in stages_of(node).items():
        value = _sparsity(stage)
        if value is not None:
            asked = graph.requested.get(stage.name, value) if noted else value
            layers.append((asked, macs[prefix]))
    return Savings.of(layers).sparsity if layers else None


def _masked_macs(graph: Graph, node: Node) -> float:
    """Dense multiply-adds of those of its convolutions that have a mask."""
    if node.op != "inverted_residual":
        return 0.0 if _sparsity(node) is None else dense_macs(graph, node)
    macs, stages = _stage_macs(graph, node), stages_of(node)
    return sum(macs[prefix] for prefix, stage in stages.items() if _sparsity(stage) is not None)


def report_of(
    graph: Graph,
    node: Node,
    packed: _native.PackedOperator,
    achieved: float | None,
    candidates: tuple[tuple[str, float | None], ...] = (),
) -> NodeReport:
    """Describe a packed operator.

    Args:
        graph: the optimised graph.
        node: one of its nodes, or a layout step the lowering added.
        packed: the operator made of it.
        achieved: see `NodeReport.achieved`; None where there is no mask or the algorithm does not
            count its work.
        candidates: see `NodeReport.candidates`.
    """
    joined = node.op == "inverted_residual"
    requested = _joined_sparsity(graph, node, noted=False) if joined else _sparsity(node)
    noted = None
    if requested is not None:
        noted = graph.requested.get(node.name, requested)
        if joined:
            noted = _joined_sparsity(graph, node, noted=True)
            achieved = 1.0 - packed.macs / dense_macs(graph, node) if packed.macs else None
    reason = ""
    if node.op in _MASKS:
        reason, achieved = obstacle(graph, node), 0.0
    elif node.op in ("quantise", "dequantise"):
        reason = _border(graph, node)
    elif node.op in CONVOLUTIONS and requested is None:
        reason = "no mask"
    elif requested == 0.0:
        reason = _KEEPS_ALL
    elif requested is not None and achieved is None:
        reason = f"'{packed.algorithm}' does not count its work"
    elif requested is not None and not achieved:
        reason = f"no tile of '{packed.algorithm}' is free of kept positions"
    if "in_float" in node.attributes:
        reason = ", ".join(filter(None, (reason, str(node.attributes["in_float"]))))
    return NodeReport(
        name=node.name,
        kind=node.op,
        algorithm=packed.algorithm,
        kernel=packed.kernel,
        shape=graph.shape(node.output),
        eligible=bool(node.op in CONVOLUTIONS and requested and achieved),
        reason=reason,
        requested=noted,
        achieved=achieved if requested is not None else None,
        macs=float(packed.macs),
        dense_macs=dense_macs(graph, node),
        weight_bytes=int(packed.nbytes - packed.index_bytes),
        index_bytes=int(packed.index_bytes),
        candidates=candidates,
        sparsity=requested,
        masked_macs=_masked_macs(graph, node),
        weight_type=_weight_type(node, packed),
    )


def savings_of(rows: Sequence[NodeReport]) -> Savings:
    """What the masks of a plan's convolutions leave out of it, whatever their algorithms save."""
    convolutions = [row for row in rows if row.kind in CONVOLUTIONS]
    return Savings.of(
        ((row.sparsity, row.masked_macs) for row in convolutions if row.sparsity is not None),
        sum(row.dense_macs for row in convolutions),
    )


def _weight_type(node: Node, packed: _native.PackedOperator) -> str:
    stages = stages_of(node).values() if node.op == "inverted_residual" else (node,)
    types = [str(s.arrays["weight"].dtype) for s in stages if "weight" in s.arrays]
    if types and (packed.half_weights or " float16" in packed.kernel):
        return "float16"
    return types[0] if types else ""


def _border(graph: Graph, node: Node) -> str:
    """Why values change between bytes and float32 here; '' at inputs and results of the graph."""
    others = graph.readers(node.output)
    if node.op == "quantise":
        producer = graph.producer(node.inputs[0])
        others = [] if producer is None else [producer]
    names = ", ".join(f"'{other.name}' ({other.op})" for other in others)
    return f"not fused: {names} in float32" if names else ""


def _sparsity(node: Node) -> float | None:
    """Sparsity of the node's mask."""
    if node.op == "gather_positions":
        source = node.arrays["source"]
        return float(1.0 - np.mean(source == np.arange(source.size)))
    mask = node.arrays.get("mask")
    return None if mask is None else float(1.0 - mask.mean())
