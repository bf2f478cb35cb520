"""Convolutions of one value that nothing but a sum reads: one layer, trained in several branches.

RepVGG and MobileOne train such blocks, with a norm of the block's input among the terms; for use
they become one convolution. Masks of the branches would keep them from it, unless all are the same
and the norm has it, too: the layer is the sum, and its mask goes there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from activsparse.masks.contract import Graph
from activsparse.masks.operations import Kind, Operation, Value

__all__ = ["Merged", "merge_sums", "part_problem"]


def part_problem(leader: str) -> str:
    """Why a convolution has no mask of its own."""
    return f"added to {leader}, whose mask is that of their sum"


@dataclass(frozen=True)
class Merged:
    """A network whose parallel branches are one convolution each.

    Attributes:
        graph: in it a sum is a convolution, called as the first of its largest kernels.
        parts: the other convolutions of each sum, by its value.
    """

    graph: Graph
    parts: dict[Value, tuple[Operation, ...]]


def merge_sums(graph: Graph, masked_at: Callable[[Value], bool]) -> Merged:
    """Make one convolution of the parallel branches of each sum.

    All that is added must be branches of one value, and the sum must have a single reader.

    Args:
        graph: contracted.
        masked_at: whether a mask can be put on a value, which is a sum.
    """
    becomes: dict[Value, Operation | None] = {}  # by output; None: nobody needs it
    parts: dict[Value, tuple[Operation, ...]] = {}
    for operation in graph.operations:
        output = operation.output
        outer = graph.only_reader(output)
        if outer is None or not graph.is_residual(operation) or graph.is_residual(outer):
            continue
        inner: list[Operation] = []
        terms = list(_terms(graph, operation, inner))
        branches = [_branch(graph, term) for term in terms]
        leader = _leader([ops for _, ops in branches if ops])
        alike = len({value for value, _ in branches}) == 1 and len(set(terms)) == len(terms)
        if leader is None or None in branches[0] or not alike or not masked_at(output):
            continue
        members = [op for _, ops in branches for op in ops]
        becomes |= dict.fromkeys((op.output for op in (*members, *inner)), None)
        becomes[output] = replace(leader, outputs=(output,))
        parts[output] = tuple(
            op for op in members if op.kind is Kind.CONVOLUTION and op is not leader
        )
    if not parts:
        return Merged(graph, parts)
    operations = [becomes.get(op.output, op) for op in graph.operations]
    left = [operation for operation in operations if operation is not None]
    return Merged(Graph(left, graph.outputs, graph.sizes), parts)


def _terms(graph: Graph, addition: Operation, inner: list[Operation]) -> Iterator[Value]:
    """What a sum adds, through those that only it reads, which are noted."""
    for value in addition.inputs:
        node = graph.producers.get(value)
        if node is not None and graph.only_reader(value) is addition and graph.is_residual(node):
            inner.append(node)
            yield from _terms(graph, node, inner)
        else:
            yield value


def _branch(graph: Graph, value: Value) -> tuple[Value | None, tuple[Operation, ...]]:
    """The value a term is a branch of, None for none, and its operations, norm last."""
    last = graph.producers.get(value)
    if last is None or graph.only_reader(value) is None:
        return None, ()
    if last.kind is Kind.CONVOLUTION:
        return last.inputs[0], (last,)
    if last.kind is not Kind.NORM:
        return None, ()
    first = graph.producers.get(last.inputs[0])
    if (
        first is None
        or first.kind is not Kind.CONVOLUTION
        or graph.only_reader(first.output) is None
    ):
        return last.inputs[0], (last,)
    return first.inputs[0], (first, last)


def _leader(branches: list[tuple[Operation, ...]]) -> Operation | None:
    """The convolution whose kernel holds those of all; None where there is no such one."""
    found = [ops[0] for ops in branches if ops[0].kind is Kind.CONVOLUTION]
    shapes = [op.shape for op in found if op.shape is not None]
    if not found or len(shapes) < len(found) or len(branches) < 2:
        return None
    largest = max(range(len(shapes)), key=lambda i: (math.prod(shapes[i].kernel), -i))
    whole = shapes[largest]
    if len(found) < len(branches) and (
        max(whole.stride) > 1 or whole.in_channels != whole.out_channels
    ):
        return None
    for shape in shapes:
        fits = all(a <= b for a, b in zip(shape.kernel, whole.kernel, strict=True))
        same = (shape.stride, shape.group) == (whole.stride, whole.group)
        spread = max(shape.kernel) > 1 and shape.dilation != whole.dilation
        if not fits or not same or spread:
            return None
    return found[largest]
