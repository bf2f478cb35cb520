"""A compiled model: packed operators, tensors and the layout of the arena."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from activsparse import _native
from activsparse.engine.border import types_of
from activsparse.engine.choose import Chooser, Request, by_cost
from activsparse.engine.divide_batch import divide_batch
from activsparse.engine.fingerprint import fingerprint
from activsparse.engine.graph import Graph, Node, NodeError, Nodes, Shape
from activsparse.engine.halve import compute_in_half
from activsparse.engine.lay_out import PackedStep, lay_out
from activsparse.engine.limits import check_memory, check_tensors
from activsparse.engine.load import load
from activsparse.engine.lower import lower
from activsparse.engine.memory import ALIGNMENT
from activsparse.engine.mix import mix_in_float
from activsparse.engine.options import PRECISIONS, WEIGHTS
from activsparse.engine.passes import (
    drop_fills,
    fuse_inverted_residual,
    join_branches,
    join_stem_pool,
    optimise,
)
from activsparse.engine.report import NodeReport, report_of
from activsparse.errors import ActivsparseError

if TYPE_CHECKING:
    import onnx

__all__ = ["Plan", "compile_graph", "compile_plan"]

# Raw weights of about this much are dropped before the C library is asked to return them: it keeps
# them by itself, a quarter of the peak.
_FREED_BYTES = 4 << 20

_log = logging.getLogger(__name__)

# Algorithms that read the graph's input as it comes, and the one that computes it in bands.
_READS_NCHW = ("stem", "winograd_stem", "strips")
_IN_BANDS = "winograd_stem"

# Operators that may keep weights in another type; which do is for their algorithms.
_KEEP_WEIGHTS = ("conv", "gemm", "inverted_residual")

# Ends the names of algorithms for chequerboards; before it, that of their dense one.
_CHEQUERED = "_chequered"


@dataclass(frozen=True)
class Plan:
    """Everything an executor needs.

    Attributes:
        name: the file it came from.
        isa: instruction set of the operators.
        inputs: (name, shape) of the graph's inputs, in order.
        outputs: (name, shape) of the graph's outputs, in order.
        tensors: description and offset in the arena in bytes, -1 for inputs and outputs.
        steps: operator, ids of the tensors it reads, ids of those it writes.
        input_ids: tensors that are inputs.
        output_ids: tensors that are outputs.
        arena_bytes: size of the arena.
        reports: one per step.
        threads: how many a session uses unless told otherwise.
        weights: the fingerprint of the model; empty where it is not known.
        types: of inputs and outputs that are not float32 for who runs the model, by name.
        parts: of the batch. Tensors, steps and arena are those of one part; an executor runs the
            steps once for each.
    """

    name: str
    isa: str
    inputs: list[tuple[str, Shape]]
    outputs: list[tuple[str, Shape]]
    tensors: list[tuple[_native.TensorDesc, int]]
    steps: list[PackedStep]
    input_ids: list[int]
    output_ids: list[int]
    arena_bytes: int
    reports: list[NodeReport]
    threads: int = 1
    weights: str = ""
    types: dict[str, str] = field(default_factory=dict)
    parts: int = 1

    @property
    def run_bytes(self) -> int:
        """Memory for activations of one run: an arena for each thread that runs parts by itself."""
        return self.arena_bytes * min(self.threads, self.parts)


def compile_plan(
    path: str | os.PathLike[str] | bytes | onnx.ModelProto,
    isa: str,
    input_shapes: Mapping[str, tuple[int, ...]] | None = None,
    choose: Chooser = by_cost,
    fuse: bool = True,
    threads: int = 1,
    weights: str = WEIGHTS[0],
    mix: bool = True,
    precision: str = PRECISIONS[0],
) -> Plan:
    """Compile an ONNX file.

    Args:
        path: the file, or a model (`load`).
        isa: instruction set.
        input_shapes: full shapes of inputs whose sizes the file leaves open.
        choose: takes an algorithm for every operator.
        fuse: whether convolutions may be joined with what follows them (`inverted_residual`,
            `conv_max_pool`); otherwise each is an operator of its own, to be run by any algorithm.
        threads: how many a session uses unless told otherwise; work is cut into equal shares for
            so many.
        weights: type that the weights of products are kept in, of `options.WEIGHTS`.
        mix: whether float32 may compute what it is faster at than bytes are (`mix`), unless each
            convolution is to stay an operator of its own; whether Winograd's algorithms may be
            taken where that decides between float32 and float16.
        precision: "float16" lets that compute what it is faster at (`halve`).

    Raises:
        ActivsparseError: the file cannot be read, or holds something the engine does not run.
    """
    graph = load(path, input_shapes)
    return compile_graph(graph, isa, choose, fuse, threads, weights, mix, precision)


def compile_graph(
    graph: Graph,
    isa: str,
    choose: Chooser = by_cost,
    fuse: bool = True,
    threads: int = 1,
    weights: str = WEIGHTS[0],
    mix: bool = True,
    precision: str = PRECISIONS[0],
) -> Plan:
    """Compile a graph of ONNX nodes; see `compile_plan`."""
    model = fingerprint(graph.constants)  # before a pass changes them
    output_names = graph.outputs  # a pass may let an output read an earlier value
    graph = optimise(graph)
    if mix and fuse:
        graph = mix_in_float(graph, isa)
    types = types_of(graph, output_names)
    inputs = [(name, graph.shape(name)) for name in graph.inputs]
    outputs = [
        (name, graph.shape(value)) for name, value in zip(output_names, graph.outputs, strict=True)
    ]
    graph, parts, together = divide_batch(graph, threads)
    # A thread that runs parts by itself has all of an operator's work; where parts are left over
    # in the end, all threads share them.
    sharing = threads if parts == 1 else 1
    cut_for = threads if parts % threads else sharing
    network_bytes = sum(
        node.arrays["weight"].nbytes for node in graph.nodes if "weight" in node.arrays
    )

    def taken(
        node: Node, inputs: list[_native.TensorDesc], outputs: list[_native.TensorDesc]
    ) -> str | None:
        try:
            check_tensors((*inputs, *outputs), node.title)
            request = Request(node, inputs, outputs, network_bytes, sharing)
            return choose(request.of_one(together), isa).algorithm
        except ActivsparseError:
            return None

    def in_bands(stem: Node) -> bool:
        (n, c, h, w), (_, o, oh, ow) = graph.shape(stem.inputs[0]), graph.shape(stem.output)
        image = _native.TensorDesc(n, h, w, c, c, nchw=True)
        stride = -(-o // ALIGNMENT) * ALIGNMENT
        rows = _native.TensorDesc(n, oh, ow, o, stride, padded=True)
        return taken(stem, [image], [rows]) == _IN_BANDS

    if fuse:
        graph = drop_fills(graph)
    if precision != PRECISIONS[0]:
        graph = compute_in_half(graph, isa, mix)
    if fuse:
        graph = join_branches(fuse_inverted_residual(graph, sharing))
    if weights != WEIGHTS[0]:
        graph.nodes = Nodes(
            node.with_attributes(weights=weights) if node.op in _KEEP_WEIGHTS else node
            for node in graph.nodes
        )
    if fuse and sharing == 1:  # several would compute bands twice where their shares meet
        graph = join_stem_pool(graph, in_bands)

    def supports(
        node: Node, inputs: list[_native.TensorDesc], outputs: list[_native.TensorDesc]
    ) -> bool:
        return taken(node, inputs, outputs) in _READS_NCHW

    program = lower(graph, supports)
    # Raw weights are dropped one by one as they are packed, so that there are never two copies of
    # the network: from here on only the steps hold them.
    graph.nodes = Nodes(_without_weight(node) for node in graph.nodes)
    waiting = deque(program.steps)
    program.steps.clear()
    steps, reports = [], []
    freed = _FREED_BYTES  # what reading left behind
    while waiting:
        step = waiting.popleft()
        request = Request(
            step.node,
            [program.tensors[i].desc for i in step.inputs],
            [program.tensors[i].desc for i in step.outputs],
            network_bytes,
            sharing,
        )
        packed, report = _pack(graph, request, isa, choose, together, cut_for)
        freed += packed.nbytes
        if freed > _FREED_BYTES:
            _native.release_memory()
            freed = 0
        steps.append((packed, list(step.inputs), list(step.outputs)))
        reports.append(_of_batch(report, parts))
    offsets, arena_bytes = lay_out(
        program.tensors, program.block_bytes, steps, in_place=sharing == 1
    )
    weight_bytes = sum(packed.nbytes for packed, _, _ in steps)
    plan = Plan(
        name=graph.name,
        isa=isa,
        inputs=inputs,
        outputs=outputs,
        tensors=[
            (t.desc, -1 if t.block is None else offsets[t.block] + t.desc.itemsize * t.offset)
            for t in program.tensors
        ],
        steps=steps,
        input_ids=program.inputs,
        output_ids=program.outputs,
        arena_bytes=arena_bytes,
        reports=reports,
        threads=threads,
        weights=model,
        types=types,
        parts=parts,
    )
    check_memory(plan.run_bytes + weight_bytes, graph.name)
    _log.debug("%s: %d operators, arenas of %d bytes", graph.name, len(steps), plan.run_bytes)
    return plan


def _of_batch(report: NodeReport, parts: int) -> NodeReport:
    """What is reported of one part, for all of them."""
    return replace(
        report,
        shape=(parts * report.shape[0], *report.shape[1:]) if report.shape else (),
        macs=parts * report.macs,
        dense_macs=parts * report.dense_macs,
        masked_macs=parts * report.masked_macs,
    )


def _without_weight(node: Node) -> Node:
    arrays = {name: array for name, array in node.arrays.items() if name != "weight"}
    return replace(node, arrays=arrays)


def _pack(
    graph: Graph, request: Request, isa: str, choose: Chooser, together: int, cut_for: int
) -> tuple[_native.PackedOperator, NodeReport]:
    node = request.node
    try:
        check_tensors((*request.inputs, *request.outputs), "it")
        choice = choose(request.of_one(together), isa)
        packed = _native.pack(replace(request, threads=cut_for).spec(), choice.algorithm, isa)
        achieved = None
        if node.op == "conv_u8" and "mask" in node.arrays:
            achieved = float(1.0 - node.arrays["mask"].mean())
        if node.op == "conv" and "mask" in node.arrays:
            achieved = _achieved(request, choice.algorithm, isa)
    except ActivsparseError as error:
        raise NodeError(node, f"{graph.name}: {node.title}: ", error) from error
    return packed, report_of(graph, node, packed, achieved, choice.candidates)


def _achieved(request: Request, algorithm: str, isa: str) -> float | None:
    """Share of the algorithm's multiply-adds the mask saves, known zeros of the input apart.

    Tiles on a chequerboard need the zeros, and are compared with the dense tiles of their size.
    Active taps need them too, and compute all of a kept position and nothing of a skipped one.
    """
    dense_algorithm = algorithm
    masks: tuple[str, ...] = ("mask", "source")
    if algorithm.endswith(_CHEQUERED):
        dense_algorithm, masks = algorithm.removesuffix(_CHEQUERED), (*masks, "input_mask")
    counts = []
    for name, keep in ((algorithm, masks), (dense_algorithm, ())):
        spec = request.spec().slim(keep)
        if dict(spec.algorithms(isa))[name]:
            return float(1.0 - request.node.arrays["mask"].mean())
        counts.append(float(_native.pack(spec, name, isa).macs))
    masked, dense = counts
    return 1.0 - masked / dense if dense else None
