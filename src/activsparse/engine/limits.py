"""What a tensor may measure, and what fits this machine: said before anything is allocated."""

from __future__ import annotations

import math
import os
import resource
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from activsparse import _native
from activsparse.engine.graph import Graph, Node
from activsparse.errors import ActivsparseError

__all__ = [
    "check_inputs",
    "check_memory",
    "check_node",
    "check_tensors",
    "memory_bytes",
]

# Kernels count the floats of a tensor in 32 bits.
_MOST_FLOATS = 2**31 - 1

# The limit a container sets on its processes (cgroup v2).
_CONTAINER_LIMIT = Path("/sys/fs/cgroup/memory.max")


def check_inputs(graph: Graph) -> None:
    """Check the inputs of a graph.

    Raises:
        ActivsparseError: one is larger than operators can address.
    """
    for name in graph.inputs:
        _check_floats(_floats(graph, name), f"{graph.name}: input '{name}'")


def check_node(graph: Graph, node: Node) -> None:
    """Check a node whose inputs' and outputs' shapes are inferred.

    Raises:
        ActivsparseError: an output is larger than operators can address, or what the node reads and
            writes is together larger than this machine's memory.
    """
    what = f"{graph.name}: {node.title}"
    for name in node.outputs:
        _check_floats(_floats(graph, name), what)
    check_memory(4 * sum(_floats(graph, name) for name in {*node.inputs, *node.outputs}), what)


def check_tensors(tensors: Iterable[_native.TensorDesc], what: str) -> None:
    """Check what an operator is to read and write, before it is tried on such tensors.

    Raises:
        ActivsparseError: as `check_node`, now with the gaps between pixels.
    """
    floats = [desc.n * desc.h * desc.w * desc.stride for desc in tensors]
    for count in floats:
        _check_floats(count, what)
    check_memory(4 * sum(floats), what)


def _floats(graph: Graph, name: str) -> int:
    return math.prod(graph.shapes[name]) if name in graph.shapes else 0


def _check_floats(floats: int, what: str) -> None:
    if floats > _MOST_FLOATS:
        raise ActivsparseError(
            f"{what} takes a tensor of {4 * floats / 2**30:.1f} GiB, and 8 are the most; "
            "use a smaller input"
        )


def check_memory(needed_bytes: int, what: str) -> None:
    """Check that so much memory is there at all.

    Raises:
        ActivsparseError: it is not.
    """
    there = memory_bytes()
    if needed_bytes > there:
        raise ActivsparseError(
            f"{what} needs {needed_bytes / 2**30:.1f} GiB of memory, and this machine has "
            f"{there / 2**30:.1f}; use a smaller input, or a larger machine"
        )


def memory_bytes() -> int:
    """Return how much memory this process may ever have."""
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    soft, _ = resource.getrlimit(resource.RLIMIT_AS)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft)
    with suppress(OSError, ValueError):  # there is none of this kind, or it says "max"
        limits.append(int(_CONTAINER_LIMIT.read_text()))
    return min(limits)
