"""What the lowering produces: tensors in blocks of memory, and operators on them in order."""

from __future__ import annotations

from dataclasses import dataclass, field

from activsparse import _native
from activsparse.engine.graph import Node

__all__ = ["Program", "Step", "Tensor"]


@dataclass(frozen=True)
class Tensor:
    """A tensor operators see.

    Attributes:
        desc: shape and layout.
        block: the memory block it lies in, or None for the caller's arrays.
        offset: of its first element in the block, in elements.
    """

    desc: _native.TensorDesc
    block: int | None
    offset: int = 0


@dataclass(frozen=True)
class Step:
    """One native operator: an engine node and the tensors it reads and writes."""

    node: Node
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


@dataclass
class Program:
    """What is to be run, before algorithms are chosen and memory is laid out.

    Attributes:
        tensors: all tensors; steps, inputs and outputs name them by index.
        block_bytes: size of every memory block.
        steps: in execution order.
        inputs: tensors that are the graph's inputs.
        outputs: tensors that are the graph's outputs.
    """

    tensors: list[Tensor] = field(default_factory=list)
    block_bytes: list[int] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
